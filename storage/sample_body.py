"""What a due sample says of its user's events, in columns, and as the bytes that are sent."""

import msgspec
import numpy as np

from storage.compiled import compiled
from storage.folded import FoldedSequence
from storage.msgpack_bytes import Bytes, put_array_head, put_float, put_number, put_text
from storage.recent import (
    EVENTS,
    FLAGS,
    FRESH,
    GROUP,
    ITEM,
    KAFKA,
    MASK_SHIFT,
    NEW_ACTION,
    NEW_EXPOSURE,
    NEW_FURTHER_ACTION,
    SHOWN,
    TS,
    VALUES,
    Recent,
)
from storage.records import Int64s

__all__ = [
    "NEW_ACTION",
    "NEW_EXPOSURE",
    "NEW_FURTHER_ACTION",
    "NEW_LATE_ACTION",
    "SampleBody",
    "body_of",
    "decode_body",
    "encode_body",
    "put_body",
]


NEW_LATE_ACTION = 8
"""Beside NEW_ACTION: the exposure was in an earlier sample, as one without an action."""


class SampleBody(msgspec.Struct, frozen=True, gc=False):
    """The newest events as of a trigger, oldest first, and those before them back to the oldest that is new."""

    item_ids: list[str]
    ts_ms: list[int]
    actions: list[int]
    """Bit masks over the settings' actions."""
    groups: list[int]
    """Position of the impression, or of the organic action: events with equal numbers belong to one impression."""
    new: list[int]
    """Bits NEW_EXPOSURE, NEW_ACTION, NEW_FURTHER_ACTION and, beside NEW_ACTION, NEW_LATE_ACTION; 0 is context only."""
    value_places: list[int]
    """Index of the event that each value belongs to, ascending."""
    value_actions: list[int]
    """Action that each value came with, an index into the settings' actions; of one event the newest action last."""
    values: list[float]
    kafka_ms: list[int]
    """Kafka timestamps of the new rows in the order of the log, but those that the cap dropped."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SampleBody)
_MAP_HEAD = bytes([0x80 | len(SampleBody.__struct_fields__)])
_NAMES = [_encoder.encode(name) for name in SampleBody.__struct_fields__]
_NAME_BYTES = np.frombuffer(b"".join(_NAMES), np.uint8)
_NAME_ENDS = np.cumsum([0, *map(len, _NAMES)])
_EVENT_BYTES = 3 + 9 + 9 + 9 + 1
"""Bytes of an event at most, but for its item's id: that one's head, time, mask, group, bits."""
_VALUE_BYTES = 9 + 9 + 9
_HEAD_BYTES = len(_NAME_BYTES) + 5 * len(_NAMES)


def body_of(events: FoldedSequence, since: int) -> SampleBody:
    """The body of a sample of these events, of which what came after position `since` is new."""
    exposed = events.shown & (events.groups > since)
    acted = events.acted > since
    acted_further = (events.acted >= 0) & ~acted & (events.last > since)
    # What was not sampled was in no sample while it had no action.
    acted_late = events.shown & events.sampled & acted & ~exposed
    new = exposed * NEW_EXPOSURE + acted * NEW_ACTION + acted_further * NEW_FURTHER_ACTION
    new += acted_late * NEW_LATE_ACTION
    return SampleBody(
        events.item_ids,
        events.ts_ms.tolist(),
        events.actions.tolist(),
        events.groups.tolist(),
        new.tolist(),
        events.value_places.tolist(),
        events.value_actions.tolist(),
        events.values.tolist(),
        events.new_kafka_ms.tolist(),
    )


def decode_body(entries: bytes) -> SampleBody:
    """Read back what `encode_body` gave."""
    return _decoder.decode(_MAP_HEAD + entries)


def encode_body(body: SampleBody) -> bytes:
    """The entries of a body as MessagePack, without the head of the map that they stand in."""
    return _encoder.encode(body)[1:]


@compiled
def put_body(recent: Recent, last: int, names: Bytes, name_ends: Int64s, out: Bytes, at: int) -> int:
    """Write what `encode_body` gives of the sample that is due now, with `last` events at least.

    Returns where it ends, or -1 where there is too little room.
    """
    start = _first(recent, last)
    if at + _max_bytes(recent, start, name_ends) > len(out):
        return -1
    events, end = recent.events, recent.head[EVENTS]
    at = _put_column(out, at, 0, end - start)
    for event in range(start, end):
        item = events[event, ITEM]
        at = put_text(out, at, names, name_ends[item], name_ends[item + 1])
    at = _put_column(out, at, 1, end - start)
    for event in range(start, end):
        at = put_number(out, at, events[event, TS])
    at = _put_column(out, at, 2, end - start)
    for event in range(start, end):
        at = put_number(out, at, events[event, FLAGS] >> MASK_SHIFT)
    at = _put_column(out, at, 3, end - start)
    for event in range(start, end):
        at = put_number(out, at, events[event, GROUP])
    at = _put_column(out, at, 4, end - start)
    for event in range(start, end):
        at = put_number(out, at, _new(events[event, FLAGS]))
    at = _put_values(recent, start, out, at)
    at = _put_column(out, at, 8, recent.head[KAFKA])
    for place in range(recent.head[KAFKA]):
        at = put_number(out, at, recent.kafka_ms[place])
    return at


@compiled
def _new(flags: int) -> int:
    """What is new of an event; all exposures are sampled where recent events are kept."""
    new = flags & FRESH
    if flags & (SHOWN | NEW_EXPOSURE | NEW_ACTION) == SHOWN | NEW_ACTION:
        new |= NEW_LATE_ACTION
    return int(new)


@compiled
def _put_values(recent: Recent, start: int, out: Bytes, at: int) -> int:
    values, end = recent.values, recent.head[VALUES]
    first = 0
    while first < end and values[first, 0] < start:
        first += 1
    at = _put_column(out, at, 5, end - first)
    for value in range(first, end):
        at = put_number(out, at, values[value, 0] - start)
    at = _put_column(out, at, 6, end - first)
    for value in range(first, end):
        at = put_number(out, at, values[value, 1])
    at = _put_column(out, at, 7, end - first)
    for value in range(first, end):
        at = put_float(out, at, values[value, 2])
    return at


@compiled
def _put_column(out: Bytes, at: int, column: int, length: int) -> int:
    for place in range(_NAME_ENDS[column], _NAME_ENDS[column + 1]):
        out[at] = _NAME_BYTES[place]
        at += 1
    return put_array_head(out, at, length)


@compiled
def _first(recent: Recent, last: int) -> int:
    """The first event of the sample."""
    end = recent.head[EVENTS]
    start = max(0, end - last)
    for event in range(start):
        if recent.events[event, FLAGS] & FRESH:
            return event
    return int(start)


@compiled
def _max_bytes(recent: Recent, start: int, name_ends: Int64s) -> int:
    num = recent.head[EVENTS] - start
    num_bytes = _HEAD_BYTES + num * _EVENT_BYTES + recent.head[VALUES] * _VALUE_BYTES + recent.head[KAFKA] * 9
    for event in range(start, recent.head[EVENTS]):
        item = recent.events[event, ITEM]
        num_bytes += name_ends[item + 1] - name_ends[item]
    return int(num_bytes)
