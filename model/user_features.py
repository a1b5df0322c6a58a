"""A user's slowly changing features, as entries of the sequence beside the events, merged by time.

An auxiliary series holds the first entry of each stretch over which a feature stays the same (Zhai et al. 2024, section
2.1). Each entry is the sum of two vectors, that of the feature's name and that of name and value, which are found by
hash. A number with a fraction is no category and is left out, as the paper leaves numerical features out.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from model.layout import Integers

NO_FEATURE = (-1, -1)
"""Hashed rows of an entry that is an event."""
_KNOWN = 20_000
"""Values of features of which the hash is kept at hand."""


class UserFeature(NamedTuple):
    """A feature of the user from a moment on."""

    ts_ms: int
    """Event time of the update that told of it."""
    place: int
    """Index of the first event that is not before it; the number of events where all are."""
    name: str
    value: str | int | float | bool


def feature_rows(features: Sequence[UserFeature], num_rows: int) -> Integers:
    """Rows of name and of name and value for each feature, [F, 2], of a table of so many rows."""
    return np.array([_rows(each.name, each.value, num_rows) for each in features], np.int64).reshape(-1, 2)


def categories(features: Sequence[UserFeature]) -> list[UserFeature]:
    """The features that are categories, oldest first."""
    kept = [each for each in features if not isinstance(each.value, float) or each.value.is_integer()]
    return sorted(kept, key=lambda each: (each.ts_ms, each.name))


def newest_of_each(names: Integers, most: int) -> Integers:
    """Indexes, rising, of the newest entry of each name; of the `most` names that changed last. -1 is no name.

    >>> newest_of_each(np.array([4, -1, 7, 4, -1]), 2).tolist(), newest_of_each(np.array([4, -1, 7, 4]), 1).tolist()
    ([2, 3], [3])
    """
    entries = np.flatnonzero(names >= 0)[::-1]
    _, first = np.unique(names[entries], return_index=True)
    return np.sort(entries[np.sort(first)[:most]])


@lru_cache(_KNOWN, typed=True)
def _rows(name: str, value: str | int | float | bool, num_rows: int) -> tuple[int, int]:
    # 3 and 3.0 are one number in JSON, but True is not 1.
    told = int(value) if isinstance(value, float) else value
    return _hash(f"{name!r}", num_rows), _hash(f"{name!r}={told!r}", num_rows)


def _hash(text: str, num_rows: int) -> int:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % num_rows
