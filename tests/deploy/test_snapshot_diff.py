"""What differs between two versions' arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy.snapshot_diff import ArrayDiff, diff_arrays

Array = npt.NDArray[Any]
BASE = np.arange(6, dtype=np.float32).reshape(3, 2)


def difference(a: Array | None, b: Array | None) -> ArrayDiff | None:
    found = diff_arrays({} if a is None else {"x": a}, {} if b is None else {"x": b})
    assert len(found) <= 1
    return found[0] if found else None


def changed(**places: float) -> Array:
    array = BASE.copy()
    for place, value in places.items():
        array.flat[int(place[1:])] = value
    return array


@pytest.mark.parametrize(
    ("a", "b", "num_rows", "largest"),
    [
        (BASE, changed(_0=5.0), 1, 5.0),
        (BASE, changed(_0=5.0, _1=-1.5, _5=5.25), 2, 5.0),
        (BASE, changed(_3=np.nan), 1, None),
        (BASE, changed(_3=np.inf), 1, None),
        (BASE, BASE[:2], 0, 0.0),
        (BASE, np.concatenate([changed(_0=1.0), BASE]), 1, 1.0),
        (np.array([1, 250], np.uint8), np.array([250, 1], np.uint8), 2, 249.0),
        (np.array([True, False]), np.array([True, True]), 1, 1.0),
        (np.array(3), np.array(5), 1, 2.0),
        (np.zeros((0, 2)), np.zeros((4, 2)), 0, 0.0),
    ],
)
def test_rows_and_the_largest_difference(a: Array, b: Array, num_rows: int, largest: float | None) -> None:
    """Unsigned numbers wrap around, infinity is no JSON, and a row counts once however much of it differs."""
    found = difference(a, b)
    assert found is not None
    assert (found.num_rows, found.max_difference) == (num_rows, largest)
    assert (found.shape_a, found.shape_b) == (list(a.shape), list(b.shape))


@pytest.mark.parametrize("array", [BASE, changed(_2=np.nan), np.array(3), np.zeros((0, 2)), np.array([True])])
def test_what_is_the_same_is_not_told(array: Array) -> None:
    """A version with a NaN would differ from itself."""
    assert difference(array, array.copy()) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [(BASE, BASE.astype(np.float64)), (BASE, BASE.reshape(2, 3)), (BASE, BASE.ravel()), (np.array(1.0), np.ones(3))],
)
def test_what_cannot_be_compared_row_by_row_is_told_by_its_shapes(a: Array, b: Array) -> None:
    found = difference(a, b)
    assert found == ArrayDiff(name="x", shape_a=list(a.shape), shape_b=list(b.shape))


def test_an_array_that_only_one_has_is_told() -> None:
    assert difference(BASE, None) == ArrayDiff(name="x", shape_a=[3, 2], shape_b=None)
    assert difference(None, BASE) == ArrayDiff(name="x", shape_a=None, shape_b=[3, 2])
