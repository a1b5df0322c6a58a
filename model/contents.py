"""What is said of items beside events: the words that tell what each is about, and whether it may be shown.

Shapes: N keys, C items that are described, M words of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from model.item_keys import item_keys
from model.layout import Integers
from model.slot_map import SlotMap

MAX_WORDS = 16
"""Words of an item that count: the first ones."""
FORGOTTEN_KEY = 0
"""Key of all items that were forgotten: nothing is said of it, and it never has a row."""
NO_WORD = 0
"""Stands where an item has fewer words."""
_DESCRIBED, _HIDDEN, _FORGOTTEN = 1, 2, 4

Words = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What the catalogue says of one item."""

    item_id: str
    words: tuple[str, ...] = ()
    """What it is about, the most telling first; words of different kinds differ (`category comedy`)."""
    available: bool = True
    """Whether it may be shown."""
    forgotten: bool = False
    """Whether nothing is to be kept or learned of it."""


class Contents:
    """Descriptions by item key; at most `capacity` at one time, for which all is reserved from the start.

    Words are told as rows 1 to `num_rows` - 1 of a table, by hash.
    """

    def __init__(self, capacity: int, num_rows: int) -> None:
        self._num_rows = num_rows
        self._slots = SlotMap(capacity)
        self._keys_C, self._flags_C = np.zeros(1 + capacity, np.int64), np.zeros(1 + capacity, np.uint8)
        self._words_CM = np.zeros((1 + capacity, MAX_WORDS), np.int32)
        self._hidden: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._slots)

    def describe(self, told: Description) -> bool:
        """Take over what is said of an item, in place of what was said before; False where there is no room."""
        keys = item_keys([told.item_id])
        slots, _ = self._slots.lookup_or_insert(keys)
        kept = slots[slots > 0]
        self._keys_C[kept] = keys[0]
        self._flags_C[kept] = _DESCRIBED + _HIDDEN * (not told.available) + _FORGOTTEN * told.forgotten
        self._words_CM[kept] = _rows(told.words, self._num_rows)
        self._hidden = None
        return len(kept) > 0

    def remove(self, item_id: str) -> None:
        """Know nothing of an item any more."""
        keys = item_keys([item_id])
        if self._slots.lookup(keys)[0]:
            slots = self._slots.delete(keys)
            for column in (self._keys_C, self._flags_C, self._words_CM):
                column[slots] = 0
            self._hidden = None

    def words(self, keys_N: Integers) -> Words:
        """Rows of the words of items, `NO_WORD` behind the last and where nothing is said of one, [N, M]."""
        return self._words_CM[self._slots.lookup(keys_N)]

    def known_keys(self, keys_N: Integers) -> Integers:
        """The keys, `FORGOTTEN_KEY` in the place of those of items that were forgotten."""
        forgotten_N = self._flags_C[self._slots.lookup(keys_N)] & _FORGOTTEN != 0
        return np.where(forgotten_N, FORGOTTEN_KEY, keys_N)

    def hidden(self) -> Integers:
        """Keys of the items that may not be shown, in rising order."""
        if self._hidden is None:
            self._hidden = np.sort(self._keys_C[self._flags_C & _HIDDEN != 0])
        return self._hidden

    def state(self) -> dict[str, np.ndarray]:
        """Copies in the order of the keys: `contents.key` int64, `contents.words` int32 [C, M], `contents.flags`.

        Flags are 1, plus 2 for what may not be shown, plus 4 for what was forgotten.
        """
        slots = np.flatnonzero(self._flags_C)
        slots = slots[np.argsort(self._keys_C[slots])]
        columns: dict[str, npt.NDArray[Any]] = {"key": self._keys_C, "words": self._words_CM, "flags": self._flags_C}
        return {f"contents.{name}": column[slots] for name, column in columns.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`; raises `ValueError` where it has more items than there is room for."""
        keys = arrays["contents.key"]
        if len(keys) > self._slots.capacity:
            raise ValueError(
                f"max_described must be >= {len(keys)}, as many as the snapshot has, got {self._slots.capacity}"
            )
        slots, _ = self._slots.lookup_or_insert(keys)
        self._keys_C[slots], self._flags_C[slots] = keys, arrays["contents.flags"]
        self._words_CM[slots] = arrays["contents.words"]
        self._hidden = None


def _rows(words: Sequence[str], num_rows: int) -> Words:
    """The first distinct words as rows, the rest `NO_WORD`; none where there are no rows for words."""
    rows = np.full(MAX_WORDS, NO_WORD, np.int32)
    first = list(dict.fromkeys(words))[:MAX_WORDS] if num_rows else []
    digests = (xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass")) for word in first)
    rows[: len(first)] = [1 + digest % (num_rows - 1) for digest in digests]
    return rows
