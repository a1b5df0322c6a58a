"""What a user's sequence is made of: one row for each shown item and each action, in a fixed layout.

A *position* is one integer that orders the records of a source partition for ever: the log's epoch
(how often the topic was made anew) in the high bits, the offset in the low 48.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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
ROW = struct.Struct("<qqqQQQdHbH")
"""The same, to pack one row at a time."""

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
            # As columns of characters: a fifth of what it takes to cut them out one by one.
            letters = np.zeros((len(lengths), widest), np.uint32)
            letters[np.arange(widest) < lengths[:, None]] = np.frombuffer(items, np.uint8)
            ids: list[str] = letters.view(f"U{widest}")[places, 0].tolist()
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
    rows, items = [], []
    size = ENTRY.itemsize
    first = start + 4
    for value in values:
        end = first + int.from_bytes(value[start:first], "little") * size
        if not first <= end <= len(value):
            raise ValueError(f"{len(value)} bytes cannot hold {num_rows(value, start)} rows")
        rows.append(value[first:end])
        items.append(value[end:])
    entries = Entries(np.frombuffer(b"".join(rows), ENTRY), b"".join(items))
    if int(entries.rows["item_bytes"].sum()) != len(entries.items):
        raise ValueError(f"item ids take {len(entries.items)} bytes, the rows say otherwise")
    return entries


NO_ENTRIES = Entries(np.empty(0, ENTRY), b"")
"""The rows of a user of whom none is kept."""
