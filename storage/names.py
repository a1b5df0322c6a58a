"""Item ids by number: what recent events name their items by, so that an id stands in memory once for all users."""

import numpy as np
import numpy.typing as npt

from storage.compiled import compiled
from storage.records import Hashes, Int64s, Records

MAX_NAMES = 131_072
"""Ids beyond which all are forgotten, and with them what names items by their numbers."""
_FIRST_PLACES = 1 << 12


class Names:
    """The item ids of one store, numbered as they come."""

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        return self._num

    @property
    def is_full(self) -> bool:
        """Whether all should be forgotten."""
        return self._num > MAX_NAMES

    def clear(self) -> None:
        """Forget all."""
        self._num = 0
        self._places = np.full(_FIRST_PLACES, -1, np.int64)
        self._hashes = np.empty(_FIRST_PLACES, np.uint64)
        self.ends = np.zeros(_FIRST_PLACES + 1, np.int64)
        """Where each id begins in `text`, and where the last ends."""
        self.text = np.empty(_FIRST_PLACES * 8, np.uint8)

    def numbers(self, records: Records) -> Int64s:
        """The numbers of the records' items."""
        return self.numbers_of(records.text, records.item_spans, records.item_hashes)

    def numbers_of(self, text: npt.NDArray[np.uint8], spans: Int64s, hashes: Hashes) -> Int64s:
        """The numbers of items by span in a text and hash; those not known yet get one."""
        lengths = spans[:, 1] - spans[:, 0]
        self._make_room(len(spans), int(lengths.sum()))
        found = np.empty(len(spans), np.int64)
        self._num = _number(text, spans, hashes, self._num, self._places, self._hashes, self.ends, self.text, found)
        return found

    def _make_room(self, num: int, num_bytes: int) -> None:
        if 2 * (self._num + num) > len(self._places):
            size = 1 << (2 * (self._num + num)).bit_length()
            self._hashes = np.concatenate((self._hashes[: self._num], np.empty(size - self._num, np.uint64)))
            self.ends = np.concatenate((self.ends[: self._num + 1], np.empty(size - self._num, np.int64)))
            self._places = np.full(size, -1, np.int64)
            _place_again(self._num, self._places, self._hashes)
        used = int(self.ends[self._num])
        if used + num_bytes > len(self.text):
            self.text = np.concatenate((self.text[:used], np.empty(used + 2 * num_bytes, np.uint8)))


@compiled
def _place_again(num: int, places: Int64s, hashes: Hashes) -> None:
    last = len(places) - 1
    for number in range(num):
        place = np.int64(hashes[number] & np.uint64(last))
        while places[place] >= 0:
            place = (place + 1) & last
        places[place] = number


@compiled
def _number(
    text: npt.NDArray[np.uint8],
    spans: Int64s,
    hashes: Hashes,
    num: int,
    places: Int64s,
    known: Hashes,
    ends: Int64s,
    names: npt.NDArray[np.uint8],
    found: Int64s,
) -> int:
    last = len(places) - 1
    for item in range(len(spans)):
        place = np.int64(hashes[item] & np.uint64(last))
        while places[place] >= 0 and known[places[place]] != hashes[item]:
            place = (place + 1) & last
        if places[place] < 0:
            places[place] = num
            known[num] = hashes[item]
            at = ends[num]
            for place_in_text in range(spans[item, 0], spans[item, 1]):
                names[at] = text[place_in_text]
                at += 1
            num += 1
            ends[num] = at
        found[item] = places[place]
    return num
