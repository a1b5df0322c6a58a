from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from storage.deltas import apply_delta, check_names, make_deltas
from storage.manifest import Table
from tests.storage.made_table import assert_same, ids_as_arrays

TABLES = {"items": Table(rows=0, dim=2, dtype="float32", columns=("items.weight", "items.live"))}
Arrays = dict[str, npt.NDArray[Any]]


def state(ids: list[str], weight: Sequence[float], **others: npt.NDArray[Any]) -> Arrays:
    return {"items.weight": np.array(weight, np.float32).reshape(-1, 1), **ids_as_arrays(ids)} | others


BASE = state(["", "one", "two", "three"], [0, 1, 2, 3])
AFTER = state(["", "1", "", "three", "four"], [0, 1, 0, 7, 4])
DELTA: Arrays = {
    "items.num_rows": np.array(5),
    "items.evicted": np.array([2]),
    "items.rows": np.array([3, 4]),
    "items.rows.items.weight": np.array([[7], [4]], np.float32),
    "items.renamed": np.array([1, 4]),
    "items.renamed.id_bytes": np.frombuffer(b"1four", np.uint8),
    "items.renamed.id_ends": np.array([1, 5]),
}


def delta_of(base: Arrays, after: Arrays) -> Arrays:
    return make_deltas({"model": base}, {"model": after}, TABLES)["model"]


def test_a_delta_holds_what_changed() -> None:
    """This is the format: a change of it is a change for every reader."""
    assert_same(delta_of(BASE, AFTER), DELTA)
    assert_same(apply_delta(BASE, DELTA, TABLES), AFTER)


def test_the_base_stays_as_it_was() -> None:
    """A server answers from the former version while the next one is made."""
    before = {name: array.copy() for name, array in BASE.items()}
    apply_delta(BASE, DELTA, TABLES)
    apply_delta(BASE, delta_of(BASE, state(["", "1", "", "3"], [0, 9, 0, 9])), TABLES)
    assert_same(BASE, before)


def test_nothing_changed_is_nothing_but_what_is_whole() -> None:
    """A quiet second must cost nothing."""
    delta = delta_of(BASE, BASE)
    assert all(array.size == 0 for name, array in delta.items() if name != "items.num_rows")
    assert_same(apply_delta(BASE, delta, TABLES), BASE)


def test_an_evicted_row_whose_values_are_zero_is_not_told_again() -> None:
    """Its bytes would be sent to say what the eviction says."""
    delta = delta_of(BASE, state(["", "one", "two", ""], [0, 1, 2, 0]))
    assert (delta["items.evicted"].tolist(), delta["items.rows"].tolist()) == ([3], [])
    assert delta["items.renamed"].tolist() == []


def test_an_evicted_row_keeps_what_is_not_zero() -> None:
    """A column may be cleared to another value."""
    after = state(["", "one", "two", ""], [0, 1, 2, -1])
    delta = delta_of(BASE, after)
    assert delta["items.rows"].tolist() == [3]
    assert_same(apply_delta(BASE, delta, TABLES), after)


def test_values_are_compared_bit_for_bit() -> None:
    """A NaN differs from itself, and zero does not differ from minus zero, for floats alone."""
    before = state(["", "one", "two"], [np.nan, 0.0, 1.0])
    after = state(["", "one", "two"], [np.nan, -0.0, 1.0])
    assert delta_of(before, after)["items.rows"].tolist() == [1]


def test_columns_of_which_most_changes_go_whole() -> None:
    """Counts that decay change in every row, and would have every row of the weights told with them."""
    before, after = (
        state(["", "a", "b", "c"], weight, **{"items.live": np.array(live)})
        for weight, live in (([0, 1, 2, 3], [1, 2, 3, 4]), ([0, 1, 2, 9], [1, 3, 4, 5]))
    )
    delta = delta_of(before, after)
    assert delta["items.rows"].tolist() == [3]
    assert delta["items.live"].tolist() == [1, 3, 4, 5]
    assert "items.rows.items.live" not in delta


def test_ids_in_another_file_than_before_or_in_two_go_whole() -> None:
    """The reader of one file has only that file's arrays."""
    bare = {"items.weight": BASE["items.weight"]}
    for base, after in (
        ({"model": BASE, "trainer": bare}, {"model": bare, "trainer": AFTER}),
        ({"model": BASE, "trainer": BASE}, {"model": AFTER, "trainer": BASE}),
    ):
        for name, delta in make_deltas(base, after, TABLES).items():
            assert_same(delta, after[name])
            assert_same(apply_delta(base[name], delta, TABLES), after[name])


def test_new_rows_are_told_even_where_all_columns_go_whole() -> None:
    """Who follows the rows that changed, for an index of them, would not hear of these."""
    delta = delta_of(state(["", "a"], [0, 1]), state(["", "a", "b", "c", "d"], [0, 1, 2, 3, 4]))
    assert delta["items.rows"].tolist() == delta["items.renamed"].tolist() == [2, 3, 4]
    assert "items.weight" in delta


@pytest.mark.parametrize(
    "other",
    [np.zeros(3), np.zeros((4, 2), np.int64), np.zeros(4, np.int32), np.array(0)],
)
def test_columns_of_another_form_go_whole(other: npt.NDArray[Any]) -> None:
    """An array that is not as long as its table yet has no rows to tell."""
    fits = np.zeros(4, np.int64)
    for before, after in ((fits, other), (other, fits), (other, other + 1)):
        one, two = (state(["", "a", "b", "c"], [0, 1, 2, 3], **{"items.live": array}) for array in (before, after))
        delta = delta_of(one, two)
        np.testing.assert_array_equal(delta["items.live"], after)
        assert_same(apply_delta(one, delta, TABLES), two)


def test_a_table_without_ids_goes_whole() -> None:
    """Nothing says how many rows it has."""
    bare = {"items.weight": BASE["items.weight"]}
    assert_same(delta_of(bare, bare), bare)
    assert_same(delta_of(bare, BASE), BASE)


def wrong(**arrays: Any) -> Arrays:
    """The delta with arrays replaced, by name with _ for the dot; those that are None go."""
    renamed = {name.replace("__", "."): array for name, array in arrays.items()}
    return {name: array for name, array in (DELTA | renamed).items() if array is not None}


ROWS = "items__rows__items__weight"
IDS = "items__renamed__id_"
WRONG: list[tuple[Arrays, str]] = [
    (wrong(items__num_rows=np.array(-1)), "items.num_rows must be one int64 >= 0, got int64 -1"),
    (wrong(items__num_rows=np.array([5])), "items.num_rows must be one int64 >= 0"),
    (wrong(items__num_rows=np.array(5.0)), "items.num_rows must be one int64 >= 0, got float64"),
    (wrong(items__num_rows=np.array(2**60)), "items.rows must name every new row from 4 to 1152921504606846975, got 1"),
    (wrong(items__num_rows=np.array(4)), "items.rows must be 0 to 3, got 3 to 4"),
    (wrong(items__num_rows=np.array(0)), "items.evicted must be 0 to -1, got 2 to 2"),
    (wrong(items__rows=None), "items.rows is missing"),
    (wrong(items__evicted=None), "items.evicted is missing"),
    (wrong(items__rows=np.array([4, 3])), "items.rows must be ascending and distinct"),
    (wrong(items__rows=np.array([4, 4])), "items.rows must be ascending and distinct"),
    (wrong(items__rows=np.array([-1, 4])), "items.rows must be 0 to 4, got -1 to 4"),
    (wrong(items__rows=np.array([3, 5])), "items.rows must be 0 to 4, got 3 to 5"),
    (wrong(items__rows=np.array([3, 4], np.int32)), r"items.rows must be int64 \[K\], got int32"),
    (wrong(items__rows=np.array([[3, 4]])), r"items.rows must be int64 \[K\], got int64 \[1, 2\]"),
    (wrong(items__rows=np.array([2, 3])), "items.rows must name every new row from 4 to 4, got 0"),
    (wrong(items__evicted=np.array([9])), "items.evicted must be 0 to 4, got 9"),
    (wrong(**{ROWS: np.zeros((3, 1), np.float32)}), r"items.weight must be float32 \[2, 1\].* got float32 \[3, 1\]"),
    (wrong(**{ROWS: np.zeros((2, 2), np.float32)}), r"must be float32 \[2, 1\].*, got float32 \[2, 2\]"),
    (wrong(**{ROWS: np.zeros(2, np.float32)}), r"must be float32 \[2, 1\].*, got float32 \[2\]"),
    (wrong(**{ROWS: np.zeros((2, 1))}), r"must be float32 \[2, 1\].*, got float64"),
    (wrong(items__rows__step=np.zeros(2, np.int64)), r"items.rows.step must be int64 \[2\], for rows of \[\]"),
    (wrong(items__rows__bias=np.zeros(2)), "items.rows.bias must change an array of the base, which has no bias"),
    (wrong(items__weight=np.zeros(2)), "items.weight must be whole or by row, got both"),
    (wrong(items__renamed=np.array([1])), "items.renamed.id_ends must have 1 rows, got 2"),
    (wrong(items__renamed=np.array([1, 2])), "items.renamed must name every new row from 4 to 4, got 0"),
    (wrong(items__renamed=np.array([1, 9])), "items.renamed must be 0 to 4, got 1 to 9"),
    (wrong(**{IDS + "ends": None}), "items.renamed.id_ends is missing"),
    (wrong(**{IDS + "bytes": None}), "items.renamed.id_bytes is missing"),
    (wrong(**{IDS + "ends": np.array([1, 6])}), "items.renamed.id_ends must rise from 0 to 5"),
    (wrong(**{IDS + "ends": np.array([6, 5])}), "items.renamed.id_ends must rise from 0 to 5"),
    (wrong(**{IDS + "ends": np.array([-1, 5])}), "items.renamed.id_ends must rise from 0 to 5"),
    (
        wrong(**{IDS + "ends": np.array([1, 5], np.int32)}),
        r"must be uint8 \[B\] and int64 \[N\], got uint8 \[5\] and int32",
    ),
    (
        wrong(**{IDS + "ends": np.array([[1, 5]])}),
        r"must be uint8 \[B\] and int64 \[N\], got uint8 \[5\] and int64 \[1, 2\]",
    ),
    (wrong(**{IDS + "bytes": np.zeros(5, np.int8)}), r"must be uint8 \[B\] and int64 \[N\], got int8"),
    (wrong(**{IDS + "bytes": np.zeros((1, 5), np.uint8)}), r"must be uint8 \[B\] and int64 \[N\], got uint8 \[1, 5\]"),
]


@pytest.mark.parametrize(("delta", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_a_delta_that_does_not_fit_is_refused(delta: Arrays, message: str) -> None:
    """Bytes that agree with their checksum may come from anyone: they may neither crash a server nor fill it up."""
    with pytest.raises(ValueError, match=message):
        apply_delta(BASE | {"step": np.array(1)}, delta, TABLES)


def test_a_base_whose_ids_are_none_is_refused() -> None:
    """The base, too, comes from outside."""
    with pytest.raises(ValueError, match=r"items\.id_ends must rise from 0 to 11"):
        apply_delta(BASE | {"items.id_ends": np.array([0, 9, 3, 11])}, DELTA, TABLES)


@pytest.mark.parametrize(
    "name", ["items.rows", "items.rows.weight", "items.evicted", "items.num_rows", "items.renamed"]
)
def test_names_of_a_deltas_own_arrays_are_refused(name: str) -> None:
    """The reader would take the array for a part of the delta."""
    with pytest.raises(ValueError, match=f"array '{name}' must have another name"):
        check_names({"model": {name: np.zeros(1)}}, TABLES)
    check_names({"model": {"items.rowset": np.zeros(1), "others.rows": np.zeros(1)}}, TABLES)
