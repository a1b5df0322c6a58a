"""The plain events of a chunk, read by compiled code; the rest are left to `streams.decoding`, which costs more.

An event is plain, and taken, only if the other way of decoding would surely make the same of it: an action or
impression in JSON with each field at most once and none besides, text of printable ASCII without escapes, ids of at
most `storage.xxh3.MAX_BYTES`, numbers that are exact with 15 digits, a time and a key that are right, version 1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from storage.compiled import compiled
from storage.records import Hashes, Int64s, Records
from storage.xxh3 import xxh3_64
from streams.events import MAX_EVENT_BYTES, MAX_FUTURE_MS, MAX_ITEMS, MAX_TIME_MS
from streams.json_scan import (
    ACTION,
    EVENT_ID,
    ITEM_ID,
    ITEMS,
    NAMES,
    REQUEST_ID,
    TS_MS,
    TYPE,
    USER_ID,
    VALUE,
    Text,
    V,
    is_space,
    plain_integer,
    plain_number,
    scan_object,
)

_BYTES_PER_ITEM = 4
"""Least bytes of an item: quotes, one byte of text, a comma or bracket."""
_ONE = ord("1")
_CLOSE = ord("}")
_ACTION = np.frombuffer(b"action", np.uint8)
_IMPRESSION = np.frombuffer(b"impression", np.uint8)
_NO_ACTION = -1
_REFUSED = -2


class _Limits(NamedTuple):
    """Arguments of the compiled functions and no constants in them, so that a change needs no new compilation."""

    bytes: int = MAX_EVENT_BYTES
    time_ms: int = MAX_TIME_MS
    future_ms: int = MAX_FUTURE_MS
    items: int = MAX_ITEMS


class _Input(NamedTuple):
    text: Text
    sizes: Int64s
    keys: Text
    key_sizes: Int64s
    kafka_ms: Int64s
    names: Text
    """Names of the actions, joined."""
    name_ends: Int64s


class _Columns(NamedTuple):
    """As in `Records`, with room for all."""

    taken: npt.NDArray[np.bool_]
    ts_ms: Int64s
    users: Int64s
    actions: Int64s
    values: npt.NDArray[np.float64]
    events: Hashes
    requests: Hashes
    items: Int64s
    item_spans: Int64s
    item_hashes: Hashes


class EventParser:
    """Turns a chunk's plain records into columns, as `ChangeDecoder` turns all into changes."""

    def __init__(self, actions: Sequence[str]) -> None:
        names = [name.encode() for name in actions]
        self._names = np.frombuffer(bytearray().join(names), np.uint8)
        self._name_ends = np.cumsum([0, *map(len, names)], dtype=np.int64)

    def parse(self, records: Sequence[Any]) -> tuple[Records, list[Any]]:
        """Columns of the plain ones of Kafka records (`offset`, `key`, `value`, `timestamp`), and the others."""
        count = len(records)
        values = [record.value or b"" for record in records]
        keys = [record.key or b"" for record in records]
        offsets = np.fromiter([record.offset for record in records], np.int64, count)
        kafka_ms = np.fromiter([record.timestamp for record in records], np.int64, count)
        # From bytearrays: arrays over bytes cannot be written, which is another type, to be compiled for once more.
        text = np.frombuffer(bytearray().join(values), np.uint8)
        given = _Input(
            text,
            np.fromiter(map(len, values), np.int64, count),
            np.frombuffer(bytearray().join(keys), np.uint8),
            np.fromiter(map(len, keys), np.int64, count),
            kafka_ms,
            self._names,
            self._name_ends,
        )
        columns = _room(count, len(text) // _BYTES_PER_ITEM)
        rows = _parse(given, columns, _Limits())
        others: list[Any] = []
        if rows < count:
            others = [records[place] for place in np.flatnonzero(~columns.taken).tolist()]
            offsets, kafka_ms = offsets[columns.taken], kafka_ms[columns.taken]
        return _records(text, offsets, kafka_ms, columns, rows), others


def _room(records: int, items: int) -> _Columns:
    return _Columns(
        taken=np.empty(records, np.bool_),
        ts_ms=np.empty(records, np.int64),
        users=np.empty((records, 2), np.int64),
        actions=np.empty(records, np.int64),
        values=np.empty(records),
        events=np.empty(records, np.uint64),
        requests=np.empty(records, np.uint64),
        items=np.zeros(records + 1, np.int64),
        item_spans=np.empty((items, 2), np.int64),
        item_hashes=np.empty(items, np.uint64),
    )


def _records(text: Text, offsets: Int64s, kafka_ms: Int64s, columns: _Columns, rows: int) -> Records:
    items = int(columns.items[rows])
    return Records(
        text=text,
        offsets=offsets,
        ts_ms=columns.ts_ms[:rows],
        kafka_ms=kafka_ms,
        users=columns.users[:rows],
        actions=columns.actions[:rows],
        values=columns.values[:rows],
        events=columns.events[:rows],
        requests=columns.requests[:rows],
        items=columns.items[: rows + 1],
        # Copies, as there was room for many times as many.
        item_spans=columns.item_spans[:items].copy(),
        item_hashes=columns.item_hashes[:items].copy(),
    )


@compiled
def _parse(given: _Input, columns: _Columns, limits: _Limits) -> int:
    """Fill the columns with the plain records; how many they are."""
    # Taken out of the tuples once: each use of an array in a tuple counts its references, as dear as a hash.
    text, sizes, keys, key_sizes, kafka_ms, names, name_ends = given
    taken, ts_ms, users, actions, values, events, requests, items, item_spans, item_hashes = columns
    fields = np.zeros((len(NAMES), 2), np.int64)
    row = end = key_end = 0
    for place in range(len(sizes)):
        begin, key_begin = end, key_end
        end += sizes[place]
        key_end += key_sizes[place]
        first = items[row]
        taken[place] = False
        if end - begin > limits.bytes or not _scan(text, begin, end, fields, item_spans, first):
            continue
        action = _action(text, fields, names, name_ends)
        time = _time(text, fields, kafka_ms[place], limits)
        value, is_exact = _value(text, fields)
        last = _last_item(fields, item_spans, first, limits)
        user, user_end = fields[USER_ID, 0], fields[USER_ID, 1]
        if action == _REFUSED or time < 0 or not is_exact or last == first or key_end == key_begin:
            continue
        if not _same(text, user, user_end, keys, key_begin, key_end):
            continue
        ts_ms[row], actions[row], values[row] = time, action, value
        users[row, 0], users[row, 1] = user, user_end
        events[row] = _hash(text, fields, EVENT_ID)
        requests[row] = _hash(text, fields, REQUEST_ID)
        for item in range(first, last):
            item_hashes[item] = xxh3_64(text, item_spans[item, 0], item_spans[item, 1], 0)
        taken[place] = True
        row += 1
        items[row] = last
    return row


@compiled
def _scan(text: Text, begin: int, end: int, fields: Int64s, items: Int64s, first: int) -> bool:
    while end > begin and is_space(text[end - 1]):
        end -= 1
    fields[:] = 0
    return end > begin and text[end - 1] == _CLOSE and scan_object(text, begin, end, fields, items, first)


@compiled
def _action(text: Text, fields: Int64s, names: Text, name_ends: Int64s) -> int:
    """Index of the action, `_NO_ACTION` for an impression, `_REFUSED` for what has not the fields of its type."""
    is_action = fields[ITEM_ID, 1] != 0 and fields[ACTION, 1] != 0 and fields[ITEMS, 1] == 0
    if is_action and _same(text, fields[TYPE, 0], fields[TYPE, 1], _ACTION, 0, len(_ACTION)):
        for action in range(len(name_ends) - 1):
            if _same(text, fields[ACTION, 0], fields[ACTION, 1], names, name_ends[action], name_ends[action + 1]):
                return action
    is_bare = fields[ITEM_ID, 1] == 0 and fields[ACTION, 1] == 0 and fields[VALUE, 1] == 0
    if is_bare and _same(text, fields[TYPE, 0], fields[TYPE, 1], _IMPRESSION, 0, len(_IMPRESSION)):
        return _NO_ACTION
    return _REFUSED


@compiled
def _time(text: Text, fields: Int64s, kafka_ms: int, limits: _Limits) -> int:
    """The event's time; -1 if it is not a right one, or the version is not plain."""
    if fields[V, 1] != 0 and (fields[V, 1] - fields[V, 0] != 1 or text[fields[V, 0]] != _ONE):
        return -1
    time = plain_integer(text, fields[TS_MS, 0], fields[TS_MS, 1])
    # Not as a sum, which might run over.
    return time if time <= limits.time_ms and time - limits.future_ms <= kafka_ms else -1


@compiled
def _value(text: Text, fields: Int64s) -> tuple[float, bool]:
    """The value, NaN if there is none, and whether that is so."""
    if fields[VALUE, 0] == fields[VALUE, 1]:
        return np.nan, True
    value = plain_number(text, fields[VALUE, 0], fields[VALUE, 1])
    return value, not np.isnan(value)


@compiled
def _last_item(fields: Int64s, item_spans: Int64s, first: int, limits: _Limits) -> int:
    """The end of the event's items, whose spans begin at `first`; `first` if there are none or too many."""
    end = fields[ITEMS, 1]
    if end != 0:
        return end if end - first <= limits.items else first
    if fields[ITEM_ID, 1] == 0:
        return first
    item_spans[first, 0], item_spans[first, 1] = fields[ITEM_ID, 0], fields[ITEM_ID, 1]
    return first + 1


@compiled
def _hash(text: Text, fields: Int64s, field: int) -> np.uint64:
    begin, end = fields[field, 0], fields[field, 1]
    return xxh3_64(text, begin, end, 0) if end > begin else np.uint64(0)


@compiled
def _same(left: Text, begin: int, end: int, right: Text, right_begin: int, right_end: int) -> bool:
    size = end - begin
    if size != right_end - right_begin:
        return False
    place = 0
    while place < size and left[begin + place] == right[right_begin + place]:
        place += 1
    return place == size
