"""Changes in columns, and two sets of columns made one."""

import random

import numpy as np
import pytest
import xxhash

from storage.changes import Acted, Exposed
from storage.columns import columns_of, merge
from tests.storage.read_records import rows_of, types_of

LONG = "ü" * 128
CHANGES: list[Acted | Exposed] = [
    Acted(3, "ada", 10, 11, "a", 2, 4.5, "r1", "e1"),
    Exposed(4, "ü", 12, 13, ["a", LONG, "a"], None, "e2"),
    Acted(7, "bob", 14, 15, LONG, 0),
    Exposed(9, "ada", 16, 17, ["b"], "r2"),
    Acted(11, LONG, 18, 19, "c", 1, -0.0, LONG),
]


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())


def test_columns_say_what_the_changes_say() -> None:
    """What compiled code does not read must be folded as if it had read it."""
    assert rows_of(columns_of(CHANGES[:3])) == [
        (3, 10, 11, b"ada", 2, "4.5", _hash("e1"), _hash("r1"), [b"a"], [_hash("a")]),
        (
            4,
            12,
            13,
            "ü".encode(),
            -1,
            None,
            _hash("e2"),
            0,
            [b"a", LONG.encode(), b"a"],
            [*map(_hash, ("a", LONG, "a"))],
        ),
        (7, 14, 15, b"bob", 0, None, 0, 0, [LONG.encode()], [_hash(LONG)]),
    ]


def test_no_changes_are_columns_too() -> None:
    """Most chunks have nothing that compiled code does not read."""
    empty = columns_of([])
    assert rows_of(empty) == []
    assert types_of(empty) == types_of(columns_of(CHANGES))
    full = columns_of(CHANGES)
    assert merge(full, empty) is full
    assert merge(empty, full) is full


@pytest.mark.parametrize("seed", range(5))
def test_merged_columns_are_those_of_all_changes(seed: int) -> None:
    """Records that come out of the log's order are folded in another."""
    made = random.Random(seed)
    chosen = [made.random() < 0.5 for _ in CHANGES]
    first = [change for change, is_first in zip(CHANGES, chosen, strict=True) if is_first]
    second = [change for change, is_first in zip(CHANGES, chosen, strict=True) if not is_first]
    merged = merge(columns_of(first), columns_of(second))
    assert rows_of(merged) == rows_of(columns_of(CHANGES))
    assert types_of(merged) == types_of(columns_of(CHANGES))
    assert np.all(np.diff(merged.offsets) > 0)


def test_what_is_behind_an_offset_is_what_the_rest_alone_would_be() -> None:
    """A chunk that begins before the last applied record would bring the items of others."""
    for offset in range(-1, CHANGES[-1].offset + 1):
        rest = [change for change in CHANGES if change.offset > offset]
        assert rows_of(columns_of(CHANGES).behind(offset)) == rows_of(columns_of(rest))
