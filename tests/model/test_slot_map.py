"""The map against a plain dict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.slot_map import SlotMap

CAPACITY = 12
LIMITS = [0, -1, 1, np.iinfo(np.int64).min, np.iinfo(np.int64).max]
KEYS = st.lists(st.integers(0, 40) | st.sampled_from(LIMITS), min_size=1, max_size=8)
OPERATIONS = st.lists(st.tuples(st.sampled_from(["lookup", "insert", "delete"]), KEYS), max_size=60)


class PlainMap:
    """What a slot map is, word for word."""

    def __init__(self) -> None:
        self.slots: dict[int, int] = {}
        self.free: list[int] = []
        self.top = 0

    def insert(self, key: int) -> tuple[int, bool]:
        if key in self.slots:
            return self.slots[key], False
        if not self.free and self.top == CAPACITY:
            return 0, False
        if not self.free:
            self.top += 1
        self.slots[key] = self.free.pop() if self.free else self.top
        return self.slots[key], True


@given(OPERATIONS)
@settings(deadline=None, max_examples=150)
def test_a_map_is_a_dict_with_slots_that_are_used_again(operations: list[tuple[str, list[int]]]) -> None:
    """Two ids would have one row, or a key behind a deleted one would not be found."""
    slot_map, plain = SlotMap(CAPACITY), PlainMap()
    for operation, keys in operations:
        array = np.array(keys, np.int64)
        if operation == "lookup":
            assert slot_map.lookup(array).tolist() == [plain.slots.get(key, 0) for key in keys]
        elif operation == "insert":
            slots, is_new = slot_map.lookup_or_insert(array)
            assert list(zip(slots.tolist(), is_new.tolist(), strict=True)) == [plain.insert(key) for key in keys]
        else:
            known = list(dict.fromkeys(key for key in keys if key in plain.slots))
            freed = [plain.slots.pop(key) for key in known]
            assert slot_map.delete(np.array(known, np.int64)).tolist() == freed
            plain.free += freed[::-1]
        assert (len(slot_map), slot_map.free().tolist()) == (len(plain.slots), plain.free)
    every = np.array(list(plain.slots), np.int64)
    assert slot_map.lookup(every).tolist() == list(plain.slots.values())


def test_what_is_loaded_goes_on_as_what_it_was() -> None:
    """After a restart, ids would get other rows."""
    one, other = SlotMap(CAPACITY), SlotMap(CAPACITY)
    keys = np.arange(8) * 7
    one.lookup_or_insert(keys)
    one.delete(keys[[1, 5]])
    left = np.delete(keys, [1, 5])
    other.load(left, one.lookup(left), one.free())
    more = np.array([100, 7, 101, 102])
    assert other.lookup_or_insert(more)[0].tolist() == one.lookup_or_insert(more)[0].tolist() == [2, 6, 9, 10]


def test_a_key_without_a_slot_cannot_be_deleted_and_nothing_is() -> None:
    """A slot would be free twice, and two ids would share a row."""
    slot_map = SlotMap(CAPACITY)
    slot_map.lookup_or_insert(np.array([1, 2]))
    with pytest.raises(KeyError, match="1 keys have no slot, among them 3"):
        slot_map.delete(np.array([2, 3]))
    assert slot_map.lookup(np.array([1, 2, 3])).tolist() == [1, 2, 0]


def test_many_keys_that_come_and_go_are_found() -> None:
    """Long runs of taken places, around the end of the table, are where shifting back goes wrong."""
    rng = np.random.default_rng(0)
    slot_map, plain, everything = SlotMap(1_000), dict[int, int](), np.arange(5_000)
    for _ in range(200):
        keys = rng.integers(5_000, size=300)
        slots, is_new = slot_map.lookup_or_insert(keys)
        plain |= dict(zip(keys[is_new].tolist(), slots[is_new].tolist(), strict=True))
        gone = rng.permutation(np.array(list(plain)))[: rng.integers(400)]
        assert slot_map.delete(gone).tolist() == [plain.pop(key) for key in gone.tolist()]
        assert slot_map.lookup(everything).tolist() == [plain.get(key, 0) for key in range(5_000)]
    assert len(set(plain.values())) == len(plain) == len(slot_map)
