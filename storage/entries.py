"""What a user's sequence is made of: one row for each shown item and each action, in a fixed layout.

A *position* is one integer that orders the records of a source partition for ever: the log's epoch
(how often the topic was made anew) in the high bits, the offset in the low 48.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.compiled import compiled
from storage.msgpack_bytes import Bytes, get_little
from storage.records import Int64s

OFFSET_BITS = 48
"""Bits of a position that hold the offset."""

ENTRY = np.dtype(
    [
        ("position", "<i8"),  # of the source record
        ("ts_ms", "<i8"),  # event time, milliseconds since 1970
        ("kafka_ms", "<i8"),  # the source record's Kafka timestamp
        ("event", "<u8"),  # xxh3_64 of the event id; 0 where there is none
        ("item", "<u8"),  # xxh3_64 of the item id
        ("request", "<u8"),  # xxh3_64 of the request id; 0 where there is none
        ("value", "<f8"),  # NaN where there is none
        ("index", "<u2"),  # place of the item in its impression, from 0; 0 for an action
        ("action", "i1"),  # index into the settings' actions; -1 for an exposure
        ("item_bytes", "<u2"),  # length of the item id in UTF-8
    ]
)
"""One row, packed, as it is stored; the item's own bytes stand apart."""
_ROW_BYTES = ENTRY.itemsize

MANY_ROWS = 32
"""Rows from which on item ids are read all together."""
WIDE_BYTES = 64
"""Longest item id that is read so."""

Columns = npt.NDArray[Any]


def pack_position(epoch: int, offset: int) -> int:
    """Position of an offset in a log epoch.

    >>> unpack_position(pack_position(2, 77))
    (2, 77)
    """
    return (epoch << OFFSET_BITS) | offset


def unpack_position(position: int) -> tuple[int, int]:
    """The (epoch, offset) that a position was packed from."""
    return position >> OFFSET_BITS, position & ((1 << OFFSET_BITS) - 1)


class Entries:
    """Rows of one user: their fixed part as an array of `ENTRY`, their item ids as one run of bytes."""

    __slots__ = ("items", "rows")

    def __init__(self, rows: Columns, items: bytes) -> None:
        self.rows = rows
        self.items = items

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def join(cls, parts: Iterable["Entries"]) -> "Entries":
        """All rows of several, one after the other."""
        parts = [part for part in parts if len(part)]
        if len(parts) < 2:
            return parts[0] if parts else NO_ENTRIES
        return cls(
            np.frombuffer(b"".join(part.rows.tobytes() for part in parts), ENTRY),
            b"".join(part.items for part in parts),
        )

    def take(self, places: Columns) -> "Entries":
        """The rows at these places, which ascend."""
        if len(places) and places[-1] - places[0] == len(places) - 1:
            return self.part(int(places[0]), int(places[-1]) + 1)
        ends = np.cumsum(self.rows["item_bytes"], dtype=np.int64)
        bounds = zip((ends - self.rows["item_bytes"])[places].tolist(), ends[places].tolist(), strict=True)
        items = self.items
        return Entries(self.rows[places], b"".join([items[start:end] for start, end in bounds]))

    def part(self, start: int, end: int) -> "Entries":
        """The rows from place `start` to `end`."""
        if start == 0 and end == len(self.rows):
            return self
        lengths = self.rows["item_bytes"]
        first = int(lengths[:start].sum())
        return Entries(self.rows[start:end], self.items[first : first + int(lengths[start:end].sum())])

    def first_after(self, position: int) -> int:
        """Place of the first row after a position; rows stand in the order of positions."""
        positions = self.rows["position"]
        if not len(positions) or positions[-1] <= position:
            return len(positions)
        return int(positions.searchsorted(position, side="right"))

    def until(self, position: int) -> "Entries":
        """The rows up to a position (included)."""
        return self.part(0, self.first_after(position))

    def item_ids(self, places: Columns) -> list[str]:
        """Item ids of the rows at these places."""
        lengths = self.rows["item_bytes"].astype(np.int64)
        items = self.items
        widest = int(lengths.max(initial=0))
        if len(places) > MANY_ROWS and widest <= WIDE_BYTES and items.isascii() and b"\0" not in items:
            # As columns of characters: a tenth of what it takes to cut them out one by one.
            letters = np.zeros((len(places), widest), np.uint32)
            _spread(np.frombuffer(bytearray(items), np.uint8), lengths, places, letters)
            ids: list[str] = letters.view(f"U{widest}")[:, 0].tolist()
            return ids
        ends = lengths.cumsum()
        bounds = zip((ends - lengths)[places].tolist(), ends[places].tolist(), strict=True)
        return [items[start:end].decode() for start, end in bounds]

    def to_bytes(self) -> bytes:
        """As stored: the number of rows (4 bytes, little-endian), the rows, the item ids."""
        return len(self.rows).to_bytes(4, "little") + self.rows.tobytes() + self.items


def num_rows(value: bytes, start: int = 0) -> int:
    """Rows in what `to_bytes` gave, which begins at `start` of the value."""
    return int.from_bytes(value[start : start + 4], "little")


def entries_from(values: Sequence[bytes], start: int = 0) -> Entries:
    """Read back what `to_bytes` gave, several of them as one; each begins at `start` of its value.

    Raises `ValueError` for anything else.
    """
    if not values:
        return NO_ENTRIES
    ends = np.array([0, *accumulate(map(len, values))])
    text = np.frombuffer(bytearray().join(values), np.uint8)
    rows, items = np.empty(len(text), np.uint8), np.empty(len(text), np.uint8)
    num_bytes, num_item_bytes, damaged = _split(text, ends, start, rows, items)
    if damaged >= 0:
        raise ValueError(f"{len(values[damaged])} bytes cannot hold {num_rows(values[damaged], start)} rows")
    entries = Entries(rows[:num_bytes].view(ENTRY), items[:num_item_bytes].tobytes())
    if int(entries.rows["item_bytes"].sum()) != len(entries.items):
        raise ValueError(f"item ids take {len(entries.items)} bytes, the rows say otherwise")
    return entries


@compiled
def _split(text: Bytes, ends: Int64s, start: int, rows: Bytes, items: Bytes) -> tuple[int, int, int]:
    """Bring the rows of values together, and their item ids; bytes of each, and the first value that is none, or -1."""
    num_bytes = num_item_bytes = 0
    for value in range(len(ends) - 1):
        at, end = ends[value] + start, ends[value + 1]
        size = end if at + 4 > end else get_little(text, at, 4) * _ROW_BYTES
        at += 4
        if size > end - at:
            return num_bytes, num_item_bytes, value
        rows[num_bytes : num_bytes + size] = text[at : at + size]
        num_bytes += size
        at += size
        items[num_item_bytes : num_item_bytes + end - at] = text[at:end]
        num_item_bytes += end - at
    return num_bytes, num_item_bytes, -1


@compiled
def _spread(items: Bytes, lengths: Int64s, places: Int64s, letters: npt.NDArray[np.uint32]) -> None:
    """Write the ids at these places, one below the other."""
    ends = np.cumsum(lengths)
    for row in range(len(places)):
        place = places[row]
        first = ends[place] - lengths[place]
        for letter in range(lengths[place]):
            letters[row, letter] = items[first + letter]


NO_ENTRIES = Entries(np.empty(0, ENTRY), b"")
"""The rows of a user of whom none is kept."""
