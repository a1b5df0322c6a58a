"""The vocabulary against a plain dict of ids, and what is left of an id whose row was taken back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.admission import Always, Seen
from model.item_keys import item_keys, shared_rows
from model.vocabulary import Vocabulary

ID = st.sampled_from([f"i{number}" for number in range(30)])


class Stream:
    """Feeds ids to a vocabulary as events, one second and one number each."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.number = 0

    def see(self, *item_ids: str) -> tuple[list[int], list[int]]:
        numbers = self.number + np.arange(len(item_ids))
        self.number += len(item_ids)
        rows, new_rows = self.vocabulary.admit(item_keys(item_ids), item_ids, 100 + numbers, numbers)
        return rows.tolist(), new_rows.tolist()


@given(st.lists(st.tuples(st.lists(ID, min_size=1, max_size=6), st.integers(0, 40)), max_size=40))
@settings(deadline=None)
def test_ids_have_the_rows_of_a_plain_dict(steps: list[tuple[list[str], int]]) -> None:
    """Two ids would share a row, or an id lose what it learned."""
    stream, plain, free, top = Stream(Vocabulary(16, Always())), dict[str, int](), list[int](), 0
    for item_ids, victim in steps:
        rows, new_rows = stream.see(*item_ids)
        expected_new = []
        for item_id in item_ids:
            if item_id not in plain and len(plain) < 16:
                if not free:
                    top += 1
                plain[item_id] = free.pop() if free else top
                expected_new.append(plain[item_id])
        assert (rows, new_rows) == ([plain.get(item_id, 0) for item_id in item_ids], expected_new)
        if victim in plain.values():
            stream.vocabulary.take_back(np.array([victim]))
            plain = {item_id: row for item_id, row in plain.items() if row != victim}
            free.append(victim)
        assert len(stream.vocabulary) == len(plain) == stream.vocabulary.live_I.sum()
        known = stream.vocabulary.lookup(item_keys([*plain, "nobody"]))
        assert known.tolist() == [*plain.values(), 0]


def test_an_id_has_a_row_from_the_event_on_that_admits_it() -> None:
    """An earlier event would be read as what only a later one made of it."""
    stream = Stream(Vocabulary(16, Seen(3, 1_000)))
    assert stream.see("a", "b", "a", "a", "a") == ([0, 0, 0, 1, 1], [1])
    assert stream.see("b", "a", "b") == ([0, 1, 2], [2])


def test_a_count_fades_by_half_while_as_many_events_pass_as_there_can_be_rows() -> None:
    """What was seen often long ago would never give way."""
    stream = Stream(Vocabulary(16, Always()))
    stream.see("a", "a", "a", "b")
    np.testing.assert_allclose(stream.vocabulary.counts(np.array([1, 2]), 3 + 16), [1.5, 0.5])
    stream.number = 3 + 16
    stream.see("a")
    np.testing.assert_allclose(stream.vocabulary.counts(np.array([1, 2]), 3 + 16), [2.5, 0.5])


def test_nothing_is_left_of_an_id_whose_row_was_taken_back() -> None:
    """The row's next owner would be as old and as popular as the former."""
    stream = Stream(Vocabulary(16, Always()))
    stream.see("a", "b", "b", "b")
    stream.vocabulary.take_back(np.array([2]))
    ids, rest = stream.vocabulary.state()
    assert all(array[2] == 0 for name, array in (ids | rest).items() if len(array) == 3 and name != "items.id_ends")
    stream.number = 50
    assert stream.see("c") == ([2], [2])
    seen = stream.vocabulary.sightings(160, 55)
    assert (seen.rows_I.tolist(), seen.idle_seconds_I.tolist(), seen.age_I.tolist()) == ([1, 2], [60, 10], [55, 5])
    assert stream.vocabulary.counts(np.array([2]), 50).tolist() == [1.0]


def test_a_loaded_vocabulary_goes_on_as_the_one_it_was() -> None:
    """After a restart, ids would get other rows than without it."""
    one = Stream(Vocabulary(16, Seen(2, 1_000)))
    one.see(*"aabbccddeeff")
    one.vocabulary.take_back(np.array([2, 5]))
    one.see("x", "g", "g")
    other = Stream(Vocabulary(20, Seen(2, 1_000)))
    other.vocabulary.load(*one.vocabulary.state())
    other.number = one.number
    for stream in (one, other):
        assert stream.see(*"xyyzzhhaab")[1] == [5, 7, 8, 9, 10]
    for mine, its in zip(one.vocabulary.state(), other.vocabulary.state(), strict=True):
        assert mine.keys() == its.keys()
        assert all((mine[name] == its[name]).all() for name in mine if name != "items.seen")


def test_a_snapshot_with_more_rows_than_there_can_be_is_refused() -> None:
    """Rows would be lost without a word."""
    stream = Stream(Vocabulary(64, Always()))
    stream.see(*(f"i{number}" for number in range(20)))
    with pytest.raises(ValueError, match="max_items must be >= 20, as many as the snapshot has, got 16"):
        Vocabulary(16, Always()).load(*stream.vocabulary.state())


def test_two_ids_seldom_share_both_rows() -> None:
    """Ids without rows of their own would all be read as one."""
    rows_N2 = shared_rows(item_keys([f"i{number}" for number in range(1_000)]), 256)
    assert rows_N2.min() >= 0
    assert rows_N2.max() < 256
    assert len(np.unique(rows_N2, axis=0)) > 980
