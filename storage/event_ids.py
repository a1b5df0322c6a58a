"""Which event ids of a chunk's records the users' sequences keep already.

A filter in memory says for nearly all new ids that they are new; for what it cannot rule out, the user's rows are
read. It is made from the rows when a store is opened, and made anew, twice as large, when it is full.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from storage.arrivals import Arrivals, user_hash
from storage.compiled import compiled
from storage.entries import ENTRY
from storage.msgpack_bytes import Bytes, get_little
from storage.records import Hashes, Int64s

FIRST_WORDS = 1 << 16
"""Words of the filter of a small store."""
IDS_PER_WORD = 2
"""Ids for each word of 64 bits, at most: with 5 bits each, some 2 of 1,000 new ones cannot be ruled out."""
_BITS = 5
_BATCH = 4_096
"""Values whose rows are read together."""
_ROW_BYTES = ENTRY.itemsize
assert ENTRY.fields is not None
_EVENT_AT = ENTRY.fields["event"][1]
_NO_EVENT = np.uint64(0)


class EventIds:
    """A filter of all ids of which a row is kept; it may name others, and lacks none.

    It is made from users' rows, as `Entries.to_bytes` gives them; raises `ValueError` where these are none.
    """

    def __init__(self, stored: Iterable[tuple[str, bytes]]) -> None:
        values = iter(stored)
        hashes = []
        while batch := list(islice(values, _BATCH)):
            hashes.append(_hashes_of(batch))
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
        _note(self._words, *self._places(hashes))

    def _places(self, hashes: Hashes) -> tuple[npt.NDArray[np.int64], Hashes]:
        """The word of each hash, and its bits in it."""
        bits = np.zeros(len(hashes), np.uint64)
        for nth in range(_BITS):
            bits |= np.uint64(1) << ((hashes >> np.uint64(6 * nth)) & np.uint64(63))
        return ((hashes >> np.uint64(32)) % np.uint64(len(self._words))).astype(np.int64), bits


@compiled
def _note(words: Hashes, places: Int64s, bits: Hashes) -> None:
    for nth in range(len(places)):
        words[places[nth]] |= bits[nth]


def _hashes_of(stored: Sequence[tuple[str, bytes]]) -> Hashes:
    values = [value for _, value in stored]
    ends = np.cumsum([0, *map(len, values)])
    salts = np.array([user_hash(user_id) for user_id, _ in stored], np.uint64)
    hashes = np.empty(int(ends[-1]) // ENTRY.itemsize, np.uint64)
    num = _read(np.frombuffer(bytearray().join(values), np.uint8), ends, salts, hashes)
    if num < 0:
        raise ValueError(f"rows of {stored[-num - 1][0]!r} cannot be read: they are cut short")
    return hashes[:num]


@compiled
def _read(text: Bytes, ends: Int64s, salts: Hashes, hashes: Hashes) -> int:
    """The salted ids of all rows, without those that have none; how many there are, or -1 - which value is none."""
    num = 0
    for value in range(len(salts)):
        at, end = ends[value], ends[value + 1]
        rows = get_little(text, at, 4) if at + 4 <= end else end
        at += 4
        if rows > (end - at) // _ROW_BYTES:
            return -1 - value
        for row in range(rows):
            event = np.uint64(get_little(text, at + row * _ROW_BYTES + _EVENT_AT, 8))
            if event != _NO_EVENT:
                hashes[num] = event ^ salts[value]
                num += 1
    return num
