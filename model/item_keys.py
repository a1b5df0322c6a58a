"""Ids as 64-bit keys, and the rows of a small table that ids without a row of their own share."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import xxhash

from model.layout import Integers

_KNOWN = 1 << 16
"""Ids of which the key is kept at hand."""


def item_keys(item_ids: Iterable[str]) -> Integers:
    """The XXH3 hash of each id's UTF-8 bytes, as int64: of 100 million ids, two share one with a chance of .0003."""
    return np.fromiter(map(_key, item_ids), np.int64)


def shared_rows(keys_N: Integers, num_rows: int) -> Integers:
    """Rows, of so many, that stand for each key together, [N, 2]: one by its low and one by its high half.

    Two keys seldom share both.

    >>> shared_rows(np.array([(7 << 32) + 9]), 8).tolist()
    [[1, 7]]
    """
    halves_N2 = np.stack([keys_N & 0xFFFFFFFF, (keys_N >> 32) & 0xFFFFFFFF], -1)
    rows_N2: Integers = halves_N2 % num_rows
    return rows_N2


@lru_cache(_KNOWN)
def _key(item_id: str) -> int:
    unsigned = xxhash.xxh3_64_intdigest(item_id.encode("utf-8", "surrogatepass"))
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned
