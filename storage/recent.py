"""The newest events of one user, folded as their records arrive: what the next sample needs is at hand.

It says the same as a fold of all rows (`storage.fold`), for as long as records come in order of time. `act` and `show`
say so where they cannot tell, and then this is no longer true of the user: whoever holds it reads it anew.

Between chunks these events are one run of whole numbers of 64 bits (`save`, `load`); items go by their number in
`storage.names`, requests by their hash.
"""

from typing import NamedTuple

import numpy as np

from storage.compiled import compiled
from storage.records import Int64s
from storage.user_state import NOTHING_REACHED

FRESH = 7
"""Bits of `flags` that say what is new of an event since the last sample, as `SampleBody.new` does."""
SHOWN = 8
"""Bit of `flags` of an exposure."""
MASK_SHIFT = 4
"""Where in `flags` the mask of an event's actions begins."""
NEW_EXPOSURE = 1
"""Bit of `FRESH`: the event was shown."""
NEW_ACTION = 2
"""Bit of `FRESH`: its first action came."""
NEW_FURTHER_ACTION = 4
"""Bit of `FRESH`: it had an action before, and another came."""

HEAD = 6
EVENTS, KAFKA, VALUES, REQUESTS, LAST_TS, BLIND_TS = range(HEAD)
"""What stands in the head: how many there are of each; the user's newest time; the newest time of an exposure that is
not held."""
EVENT = 5
TS, GROUP, REQUEST, ITEM, FLAGS = range(EVENT)
"""What stands of an event."""
VALUE = 3
_UNKNOWN = -2
_NONE = -1


class Recent(NamedTuple):
    """The newest events of one user, with room for what comes."""

    head: Int64s
    events: Int64s
    """Oldest first, [*, EVENT]; all since the last sample are here, and the newest before, or all."""
    kafka_ms: Int64s
    """Kafka timestamps of the rows since the last sample."""
    values: Int64s
    """Event, action and bits of the value, by event, the newest action last, [*, VALUE]."""
    requests: Int64s
    """Requests that actions named."""


NO_RECENT = np.array([0, 0, 0, 0, NOTHING_REACHED, NOTHING_REACHED], np.int64).tobytes()
"""The events of a user who has none, as `save` leaves them."""


def room_for(num_numbers: int, num_items: int) -> Recent:
    """Room for any user of whom so many numbers are saved, and so many items to come."""
    return Recent(
        np.empty(HEAD, np.int64),
        np.empty((num_numbers // EVENT + num_items + 1, EVENT), np.int64),
        np.empty(num_numbers + num_items + 1, np.int64),
        np.empty((num_numbers // VALUE + num_items + 1, VALUE), np.int64),
        np.empty(num_numbers + num_items + 1, np.int64),
    )


@compiled
def load(recent: Recent, saved: Int64s, at: int) -> None:
    """Take in what `save` left at a place."""
    recent.head[:] = saved[at : at + HEAD]
    at += HEAD
    for part, size in _parts(recent):
        part[:size] = saved[at : at + size]
        at += size


@compiled
def save(recent: Recent, out: Int64s, at: int) -> int:
    """Leave it at a place; returns where it ends."""
    out[at : at + HEAD] = recent.head
    at += HEAD
    for part, size in _parts(recent):
        out[at : at + size] = part[:size]
        at += size
    return at


@compiled
def _parts(recent: Recent) -> tuple[tuple[Int64s, int], ...]:
    """What follows the head, in one row each, with how much of it is in use."""
    head = recent.head
    return (
        (recent.events.reshape(-1), EVENT * head[EVENTS]),
        (recent.kafka_ms, head[KAFKA]),
        (recent.values.reshape(-1), VALUE * head[VALUES]),
        (recent.requests, head[REQUESTS]),
    )


@compiled
def act(
    recent: Recent,
    window_ms: int,
    most_requests: int,
    record: tuple[int, int, int, int],
    item: int,
    action: int,
) -> int:
    """Take in an action; `record` is its position, time, Kafka time, and the hash of the request it names, or 0.

    Returns the event that it was counted for, or -1 where this cannot be told.
    """
    position, ts_ms, kafka_ms, request = record
    head = recent.head
    if ts_ms <= head[LAST_TS]:
        return _NONE
    head[LAST_TS] = ts_ms
    event = _exposure_of(recent, window_ms, most_requests, item, ts_ms, request)
    if event == _UNKNOWN:
        return _NONE
    recent.kafka_ms[head[KAFKA]] = kafka_ms
    head[KAFKA] += 1
    bit = 1 << (action + MASK_SHIFT)
    if event == _NONE:
        return _add(recent, ts_ms, position, 0, item, bit | NEW_ACTION)
    flags = recent.events[event, FLAGS]
    if not flags >> MASK_SHIFT:
        flags |= NEW_ACTION
    elif not flags & NEW_ACTION:
        flags |= NEW_FURTHER_ACTION
    recent.events[event, FLAGS] = flags | bit
    return event


@compiled
def tell(recent: Recent, event: int, action: int, bits: int) -> None:
    """Note the value of an action that was counted for an event."""
    values, num = recent.values, recent.head[VALUES]
    place = num
    for each in range(num):
        if values[each, 0] == event and values[each, 1] == action:
            place = each
    if place == num:
        num += 1
    # Of one event the newest stands last.
    while place + 1 < num and values[place + 1, 0] <= event:
        values[place] = values[place + 1]
        place += 1
    while place > 0 and values[place - 1, 0] > event:
        values[place] = values[place - 1]
        place -= 1
    values[place, 0], values[place, 1], values[place, 2] = event, action, bits
    recent.head[VALUES] = num


@compiled
def show(recent: Recent, record: tuple[int, int, int, int], items: Int64s) -> bool:
    """Take in an impression of these items; `record` as above."""
    position, ts_ms, kafka_ms, request = record
    head = recent.head
    if ts_ms <= head[LAST_TS]:
        return False
    head[LAST_TS] = ts_ms
    if request:
        # Actions further back reach no further than the newest event, or the read would have gone on to them.
        for place in range(head[REQUESTS]):
            if recent.requests[place] == request:
                return False
    first = head[EVENTS]
    for item in items:
        recent.kafka_ms[head[KAFKA]] = kafka_ms
        head[KAFKA] += 1
        is_new = True
        for event in range(first, head[EVENTS]):
            if recent.events[event, ITEM] == item:
                is_new = False
        if is_new:
            _add(recent, ts_ms, position, request, item, SHOWN | NEW_EXPOSURE)
    return True


@compiled
def begin(recent: Recent, last: int, most: int) -> None:
    """What comes from here on is new to the next sample; of `most` events or more the newest `last` stay."""
    head, events = recent.head, recent.events
    head[KAFKA] = 0
    num = head[EVENTS]
    for event in range(num):
        events[event, FLAGS] &= ~FRESH
    if num < most:
        return
    gone = num - last
    for event in range(num):
        if events[event, FLAGS] & SHOWN:
            head[BLIND_TS] = events[gone - 1, TS]
            break
    for event in range(last):
        events[event] = events[gone + event]
    head[EVENTS] = last
    kept = 0
    for value in range(head[VALUES]):
        if recent.values[value, 0] >= gone:
            recent.values[kept] = recent.values[value]
            recent.values[kept, 0] -= gone
            kept += 1
    head[VALUES] = kept


@compiled
def _add(recent: Recent, ts_ms: int, group: int, request: int, item: int, flags: int) -> int:
    event = int(recent.head[EVENTS])
    events = recent.events
    events[event, TS] = ts_ms
    events[event, GROUP] = group
    events[event, REQUEST] = request
    events[event, ITEM] = item
    events[event, FLAGS] = flags
    recent.head[EVENTS] = event + 1
    return event


@compiled
def _exposure_of(recent: Recent, window_ms: int, most_requests: int, item: int, ts_ms: int, request: int) -> int:
    """The exposure that an action belongs to, or that there is none, or that this cannot be told."""
    head, events = recent.head, recent.events
    oldest = ts_ms - window_ms
    shown = named = _NONE
    for event in range(head[EVENTS] - 1, -1, -1):
        if events[event, ITEM] == item and events[event, FLAGS] & SHOWN:
            if shown == _NONE:
                shown = event
            if not request:
                break
            if events[event, REQUEST] == request:
                named = event
                break
    is_blind = head[BLIND_TS] >= oldest
    if request:
        if not _name(recent, request, most_requests) or (named == _NONE and is_blind):
            return _UNKNOWN
        if named != _NONE and events[named, TS] >= oldest:
            return named
    if shown == _NONE:
        return _UNKNOWN if is_blind else _NONE
    return shown if events[shown, TS] >= oldest else _NONE


@compiled
def _name(recent: Recent, request: int, most: int) -> bool:
    """Note that an action named a request; False where too many are."""
    num = recent.head[REQUESTS]
    if num >= most:
        return False
    for place in range(num):
        if recent.requests[place] == request:
            return True
    recent.requests[num] = request
    recent.head[REQUESTS] = num + 1
    return True
