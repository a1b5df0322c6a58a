"""Which event ids of a chunk's records the users' sequences keep already.

A filter in memory says for nearly all new ids that they are new; for what it cannot rule out, the user's rows are
read. It is made from the rows when a store is opened, and made anew, twice as large, when it is full.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from storage.arrivals import Arrivals, user_hash
from storage.entries import Entries

FIRST_WORDS = 1 << 14
"""Words of the filter of a small store."""
IDS_PER_WORD = 2
"""Ids for each word of 64 bits, at most: with 5 bits each, some 2 of 1,000 new ones cannot be ruled out."""
_BITS = 5

Hashes = npt.NDArray[np.uint64]


class EventIds:
    """A filter of all ids of which a row is kept; it may name others, and lacks none."""

    def __init__(self, stored: Iterable[tuple[str, Entries]]) -> None:
        hashes = [_of_rows(user_id, entries) for user_id, entries in stored]
        num = sum(map(len, hashes))
        self._num = 0
        self._words = np.zeros(max(FIRST_WORDS, 2 * num // IDS_PER_WORD), np.uint64)
        if num:
            self._add(np.concatenate(hashes))

    @property
    def is_full(self) -> bool:
        """Whether more ids were added than it has room for."""
        return self._num > len(self._words) * IDS_PER_WORD

    def suspects(self, arrivals: Arrivals) -> npt.NDArray[np.bool_]:
        """Which records have an id that may be kept already, or that another of the records has, too."""
        hashes = arrivals.event_hashes
        known = np.flatnonzero(hashes)
        places, bits = self._places(hashes[known])
        flags = np.zeros(len(hashes), np.bool_)
        flags[known] = (self._words[places] & bits) == bits
        order = known[np.argsort(hashes[known])]
        flags[order[1:][hashes[order[1:]] == hashes[order[:-1]]]] = True
        flags[order[:-1][hashes[order[1:]] == hashes[order[:-1]]]] = True
        return flags

    def add(self, arrivals: Arrivals) -> None:
        """Note the ids of all records."""
        hashes = arrivals.event_hashes
        self._add(hashes[hashes != 0])

    def _add(self, hashes: Hashes) -> None:
        self._num += len(hashes)
        places, bits = self._places(hashes)
        np.bitwise_or.at(self._words, places, bits)

    def _places(self, hashes: Hashes) -> tuple[npt.NDArray[np.int64], Hashes]:
        """The word of each hash, and its bits in it."""
        bits = np.zeros(len(hashes), np.uint64)
        for nth in range(_BITS):
            bits |= np.uint64(1) << ((hashes >> np.uint64(6 * nth)) & np.uint64(63))
        return ((hashes >> np.uint64(32)) % np.uint64(len(self._words))).astype(np.int64), bits


def _of_rows(user_id: str, entries: Entries) -> Hashes:
    events = entries.rows["event"].astype(np.uint64)
    salted: Hashes = events[events != 0] ^ user_hash(user_id)
    return salted
