"""Names taken over from a former version are those of this one."""

import numpy as np
import pytest

from model.item_keys import item_keys
from model.item_names import ItemNames
from model.packed_ids import pack_ids


def arrays_of(ids: list[str], live: list[int]) -> dict[str, np.ndarray]:
    id_bytes, id_ends = pack_ids(ids)
    return {"items.id_bytes": id_bytes, "items.id_ends": id_ends, "items.live": np.array(live, np.uint8)}


def test_names_after_any_changes_are_those_read_anew() -> None:
    """An item would be answered by the name of one that had its row before."""
    rng, former, ids = np.random.default_rng(4), None, [""]
    for _ in range(300):
        count = int(rng.integers(1, 9))
        ids = [*ids, *[""] * count][:count]
        for row in rng.integers(0, count, size=3):
            free = [*sorted({f"{letter}{'é' * int(rng.integers(3))}" for letter in "abcdef"} - set(ids)), "", ""]
            ids[row] = free[int(rng.integers(len(free)))]
        live = [int(bool(item_id) and rng.random() < 0.8) for item_id in ids]
        names = ItemNames.of(arrays_of(ids, live), former)
        assert names.ids == ids
        assert names.rows == {item_id: row for row, item_id in enumerate(ids) if live[row]}
        np.testing.assert_array_equal(names.keys_I, item_keys(ids))
        former = names


def test_former_names_stay_as_they_are() -> None:
    """The replica that answers has them."""
    former = ItemNames.of(arrays_of(["", "a", "b"], [0, 1, 1]))
    ItemNames.of(arrays_of(["", "c", "a", "d"], [0, 1, 1, 1]), former)
    assert (former.ids, former.rows) == (["", "a", "b"], {"a": 1, "b": 2})


def test_ids_and_rows_that_are_not_equally_many_are_refused() -> None:
    """Which row is whose would be a guess."""
    with pytest.raises(ValueError, match=r"items.live must have shape \(2,\), as many as there are ids, got \(3,\)"):
        ItemNames.of(arrays_of(["", "a"], [0, 1, 1]))
