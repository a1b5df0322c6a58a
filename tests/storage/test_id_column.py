import numpy as np
import pytest

from storage.id_column import IdColumn
from tests.storage.made_table import ids_as_arrays


def column(*ids: str) -> IdColumn:
    return IdColumn.of(ids_as_arrays(list(ids)), "items")


def texts(ids: IdColumn) -> list[str]:
    starts = [0, *ids.ends.tolist()]
    return [ids.data[start:end].tobytes().decode() for start, end in zip(starts, ids.ends.tolist(), strict=False)]


@pytest.mark.parametrize("rows", [[], [0], [1, 2], [2, 1], [0, 1, 2, 3], [3, 3]])
def test_some_ids_are_taken_in_the_order_asked_for(rows: list[int]) -> None:
    """Bytes of a neighbour would make another id."""
    ids = ["", "one", "é", "three"]
    assert texts(column(*ids).take(np.array(rows, np.int64))) == [ids[row] for row in rows]


def test_ids_of_one_length_differ_by_their_bytes() -> None:
    """Lengths alone would call these the same; bytes alone would misplace all that comes after a longer id."""
    one, two = column("", "ab", "cd", "same", "x", "beyond"), column("", "ab", "ce", "same", "xy")
    assert one.differs(two).tolist() == [False, False, True, False, True]
    assert two.differs(one).tolist() == [False, False, True, False, True]


def test_ids_go_come_and_change_at_once() -> None:
    """What a version does to ids, in one step."""
    before = column("", "one", "two", "three")
    after = before.changed(6, np.array([2]), np.array([1, 4]), column("longer", "new"))
    assert texts(after) == ["", "longer", "", "three", "new", ""]
    assert texts(before.changed(2, np.array([], np.int64), np.array([], np.int64), column())) == ["", "one"]
    assert texts(column().changed(1, np.array([], np.int64), np.array([0]), column("a"))) == ["a"]
