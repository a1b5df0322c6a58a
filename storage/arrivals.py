"""The records of a chunk that bring rows, those of a user together and in the order of the log."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from storage.changes import Ticked, Updated
from storage.compiled import compiled
from storage.entries import ENTRY, OFFSET_BITS, Entries, entries_from
from storage.grouping import Groups
from storage.msgpack_bytes import Bytes
from storage.records import Hashes, Int64s, Records
from storage.runs import Rows
from storage.timeline import Timeline, timeline
from storage.xxh3 import MAX_BYTES, xxh3_64

_COUNT_BYTES = 4
_SALT = 1
_ROW_BYTES = ENTRY.itemsize


class _Columns(NamedTuple):
    """What stands in rows, hashes and values as their bits."""

    positions: Int64s
    ts_ms: Int64s
    kafka_ms: Int64s
    events: Int64s
    requests: Int64s
    values: Int64s
    actions: Int64s
    items: Int64s
    item_hashes: Int64s
    item_spans: Int64s
    text: Bytes


class Arrivals:
    """Records of one log epoch, by user; `others` are those of the chunk that only move time on."""

    def __init__(
        self, epoch: int, records: Records, others: Sequence[Updated | Ticked] = (), watermark_ms: int = 0
    ) -> None:
        self.records = records
        self.groups = Groups(records)
        epoch_bits = epoch << OFFSET_BITS
        self._positions = records.offsets | epoch_bits
        ts_ms, positions = records.ts_ms, self._positions
        places = np.arange(len(records))
        if others:
            offsets = np.array([other.offset for other in others], np.int64)
            positions = np.concatenate((positions, offsets | epoch_bits))
            order = np.argsort(positions)
            ts_ms = np.concatenate((ts_ms, np.array([other.ts_ms for other in others], np.int64)))[order]
            positions = positions[order]
            places = np.argsort(order)[: len(records)]
        self.timeline: Timeline = timeline(watermark_ms, positions, ts_ms)
        self._watermarks = self.timeline.watermarks[places]
        self.taken = np.zeros(len(records), np.bool_)
        """Whether each record's rows are kept; false until its user's run comes by."""

    def __len__(self) -> int:
        return len(self.records)

    def position(self, place: int) -> int:
        """Position of the record at a place of the order."""
        return int(self._positions[self.groups.order[place]])

    @cached_property
    def event_hashes(self) -> Hashes:
        """A hash of user and event id for each record; 0 where it has no id."""
        events = self.records.events
        if not events.any():
            return events
        salts = np.empty(len(self.groups.user_ids), np.uint64)
        if not _salt(self.records.text, self.groups.spans, salts):
            salts = np.array([user_hash(user_id) for user_id in self.groups.user_ids], np.uint64)
        hashes: Hashes = np.where(events != 0, events ^ salts[self.groups.of_records], np.uint64(0))
        return hashes

    def rows(self, names: Int64s, suspects: npt.NDArray[np.bool_]) -> Rows:
        """The records as users' runs take them; `names` are the numbers of their items."""
        records, groups = self.records, self.groups
        return Rows(
            groups.order,
            groups.bounds,
            self._positions,
            self._watermarks,
            records.ts_ms,
            records.kafka_ms,
            records.actions,
            records.values,
            records.values.view(np.int64),
            records.requests.view(np.int64),
            records.items,
            names,
            suspects,
            self.taken,
        )

    def values(self, starts: Int64s, ends: Int64s) -> tuple[list[bytes], list[int]]:
        """The rows of the records taken from `order[start:end]`, for each pair, as `Entries.to_bytes` gives them.

        And the position of the first; b"" and -1 where there is none.
        """
        records = self.records
        lengths = records.item_spans[:, 1] - records.item_spans[:, 0]
        out = np.empty(len(starts) * _COUNT_BYTES + len(lengths) * _ROW_BYTES + int(lengths.sum()), np.uint8)
        bounds, firsts = np.zeros(len(starts) + 1, np.int64), np.empty(len(starts), np.int64)
        columns = _Columns(
            self._positions,
            records.ts_ms,
            records.kafka_ms,
            records.events.view(np.int64),
            records.requests.view(np.int64),
            records.values.view(np.int64),
            records.actions,
            records.items,
            records.item_hashes.view(np.int64),
            records.item_spans,
            records.text,
        )
        _pack(starts, ends, self.groups.order, self.taken, columns, out, bounds, firsts)
        packed, cuts = out[: bounds[-1]].tobytes(), bounds.tolist()
        return [packed[start:end] for start, end in pairwise(cuts)], firsts.tolist()

    def entries(self, start: int, end: int) -> Entries:
        """The rows of the records taken from `order[start:end]`."""
        (value,), _ = self.values(np.array([start]), np.array([end]))
        return entries_from([value] if value else [])


@compiled
def _salt(text: Bytes, spans: Int64s, salts: Hashes) -> bool:
    """What `user_hash` gives of the ids in these spans; False where one is too long."""
    for user in range(len(spans)):
        start, end = spans[user]
        if end - start > MAX_BYTES:
            return False
        salts[user] = xxh3_64(text, start, end, _SALT)
    return True


@compiled
def _pack(
    starts: Int64s,
    ends: Int64s,
    order: Int64s,
    taken: npt.NDArray[np.bool_],
    columns: _Columns,
    out: Bytes,
    bounds: Int64s,
    firsts: Int64s,
) -> None:
    at = 0
    for part in range(len(starts)):
        firsts[part] = -1
        begin, num = at, 0
        at += _COUNT_BYTES
        for record in order[starts[part] : ends[part]]:
            if taken[record]:
                if num == 0:
                    firsts[part] = columns.positions[record]
                num += columns.items[record + 1] - columns.items[record]
                at = _put_rows(out, at, columns, record)
        _put(out, begin, num, _COUNT_BYTES)
        for record in order[starts[part] : ends[part]]:
            if taken[record]:
                at = _put_texts(out, at, columns, record)
        if num == 0:
            at = begin
        bounds[part + 1] = at


@compiled
def _put_rows(out: Bytes, at: int, columns: _Columns, record: int) -> int:
    """Write a record's rows as `ENTRY` has them; returns where they end."""
    first = columns.items[record]
    for item in range(first, columns.items[record + 1]):
        at = _put(out, at, columns.positions[record], 8)
        at = _put(out, at, columns.ts_ms[record], 8)
        at = _put(out, at, columns.kafka_ms[record], 8)
        at = _put(out, at, columns.events[record], 8)
        at = _put(out, at, columns.item_hashes[item], 8)
        at = _put(out, at, columns.requests[record], 8)
        at = _put(out, at, columns.values[record], 8)
        at = _put(out, at, item - first, 2)
        at = _put(out, at, columns.actions[record], 1)
        at = _put(out, at, columns.item_spans[item, 1] - columns.item_spans[item, 0], 2)
    return at


@compiled
def _put_texts(out: Bytes, at: int, columns: _Columns, record: int) -> int:
    """Write the ids of a record's items; returns where they end."""
    for item in range(columns.items[record], columns.items[record + 1]):
        for letter in range(columns.item_spans[item, 0], columns.item_spans[item, 1]):
            out[at] = columns.text[letter]
            at += 1
    return at


@compiled
def _put(out: Bytes, at: int, number: int, size: int) -> int:
    """Write the low bytes of a number, the lowest first; returns where they end."""
    for place in range(size):
        out[at + place] = np.uint8((number >> (8 * place)) & 255)
    return at + size


@lru_cache(maxsize=1)  # rows come by user
def user_hash(user_id: str) -> np.uint64:
    """What tells equal event ids of different users apart, which are different events."""
    return np.uint64(xxhash.xxh3_64_intdigest(user_id.encode(), _SALT))
