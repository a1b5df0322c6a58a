"""The newest events of one user, folded as their records arrive: what the next sample needs is at hand.

It says the same as a fold of all rows (`storage.fold`), for as long as records come in order of time. `follow` says
False once it cannot tell, and then this is no longer true of the user: whoever holds it reads it anew.
"""

from array import array

import numpy as np

from storage.changes import Acted, Exposed
from storage.reading import Found
from storage.sample_body import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION, SampleBody, body_of
from storage.user_state import NOTHING_REACHED, UserState

SPARE_EVENTS = 16
"""Events more than twice those of a sample at which the oldest go."""
MAX_REQUESTS = 4_096
"""Requests named by actions that are kept in mind."""
_UNKNOWN = -2
_NONE = -1


class RecentEvents:
    """At least the newest `last` events of a user, or all; an event is known by its number, from 0.

    `names` holds item ids by themselves, so that what users share stands in memory once.
    """

    __slots__ = (
        "_base",
        "_blind_ts",
        "_fresh",
        "_groups",
        "_items",
        "_kafka_ms",
        "_last",
        "_last_ts",
        "_masks",
        "_named",
        "_named_ts",
        "_names",
        "_requests",
        "_shown",
        "_times",
        "_values",
        "_window_ms",
    )

    def __init__(self, last: int, window_ms: int, names: dict[str, str]) -> None:
        self._names = names
        self._last = last
        self._window_ms = window_ms
        self._base = 0
        self._items: list[str] = []
        self._times = array("q")
        self._masks = array("q")
        self._groups = array("q")
        self._values: dict[int, dict[int, float]] = {}
        self._fresh: dict[int, int] = {}
        """What is new of events since the last sample, as bits."""
        self._kafka_ms: list[int] = []
        self._shown: dict[str, int] = {}
        """The newest exposure of each item."""
        self._named: dict[tuple[int, str], int] = {}
        """The newest exposure of each item of a request."""
        self._requests: set[int] = set()
        """Requests that actions named."""
        self._last_ts = NOTHING_REACHED
        self._blind_ts = NOTHING_REACHED
        """Newest time of an exposure that is not held."""
        self._named_ts = NOTHING_REACHED
        """Newest time of an exposure that an action may have named that is not held."""

    @classmethod
    def of(cls, found: Found, state: UserState, *, last: int, window_ms: int, names: dict[str, str]) -> "RecentEvents":
        """What was read of a user whose newest records are read, too."""
        recent = cls(last, window_ms, names)
        fold = found.fold
        heads, before = fold.heads[found.start :], fold.heads[: found.start]
        events = fold.columns(heads, state.since)
        body = body_of(events, state.since)
        recent._items = [names.setdefault(item_id, item_id) for item_id in body.item_ids]
        recent._times, recent._masks = array("q", body.ts_ms), array("q", body.actions)
        recent._groups = array("q", body.groups)
        recent._kafka_ms = body.kafka_ms
        recent._fresh = {number: bits for number, bits in enumerate(body.new) if bits}
        for number, action, value in zip(body.value_places, body.value_actions, body.values, strict=True):
            recent._values.setdefault(number, {})[action] = value
        requests = fold.entries.rows["request"]
        recent._requests = set(requests[fold.action >= 0].tolist()) - {0}
        for number in np.flatnonzero(events.shown).tolist():
            recent._shown[body.item_ids[number]] = number
            request = int(requests[heads[number]])
            if request:
                recent._named[request, body.item_ids[number]] = number
        recent._last_ts = state.last_ts
        recent._named_ts = found.reach
        passed = fold.ts_ms[before[fold.action[before] < 0]]
        recent._blind_ts = max([found.reach if found.exposures else NOTHING_REACHED, *passed[-1:].tolist()])
        return recent

    def __len__(self) -> int:
        """Events and requests that are held."""
        return len(self._items) + len(self._requests)

    def follow(self, change: Exposed | Acted, position: int, request: int) -> bool:
        """Take in a record; `request` is the hash of the request it names, or 0."""
        ts_ms = change.ts_ms
        if ts_ms <= self._last_ts:
            return False
        self._last_ts = ts_ms
        if isinstance(change, Acted):
            return self._act(change, position, request)
        return self._show(change, position, request)

    def _act(self, change: Acted, position: int, request: int) -> bool:
        number = _NONE
        if request or self._shown or self._blind_ts != NOTHING_REACHED:
            number = self._exposure_of(change.item_id, change.ts_ms, request)
            if number == _UNKNOWN:
                return False
        self._kafka_ms.append(change.kafka_ms)
        bit = 1 << change.action
        if number == _NONE:
            number = self._add(change.item_id, change.ts_ms, bit, position, NEW_ACTION)
        else:
            self._join(number, bit)
        value = change.value
        if value is not None and value == value:
            told = self._values.setdefault(number, {})
            told.pop(change.action, None)  # of one event the newest stands last
            told[change.action] = value
        return True

    def _join(self, number: int, bit: int) -> None:
        """Count an action for an exposure."""
        place = number - self._base
        known = self._fresh.get(number, 0)
        if not self._masks[place]:
            self._fresh[number] = known | NEW_ACTION
        elif not known & NEW_ACTION:
            self._fresh[number] = known | NEW_FURTHER_ACTION
        self._masks[place] |= bit

    def _show(self, change: Exposed, position: int, request: int) -> bool:
        if request and (change.ts_ms <= self._named_ts or request in self._requests):
            return False
        self._kafka_ms += [change.kafka_ms] * len(change.item_ids)
        for item_id in dict.fromkeys(change.item_ids):
            number = self._add(item_id, change.ts_ms, 0, position, NEW_EXPOSURE)
            self._shown[item_id] = number
            if request:
                self._named[request, item_id] = number
        return True

    def _add(self, item_id: str, ts_ms: int, mask: int, position: int, new: int) -> int:
        """Add an event; returns its number."""
        number = self._base + len(self._items)
        self._items.append(self._names.setdefault(item_id, item_id))
        self._times.append(ts_ms)
        self._masks.append(mask)
        self._groups.append(position)
        self._fresh[number] = new
        return number

    def begin(self) -> None:
        """What comes from here on is new to the next sample."""
        self._fresh = {}
        self._kafka_ms = []
        if len(self._items) >= 2 * self._last + SPARE_EVENTS:
            self._shorten()

    def sample(self) -> SampleBody:
        """The body of the sample that is due now."""
        start = max(0, len(self._items) - self._last)
        base = self._base
        if self._fresh:
            start = min(start, min(self._fresh) - base)
        new = [0] * (len(self._items) - start)
        for number, bits in self._fresh.items():
            new[number - base - start] = bits
        places: list[int] = []
        actions: list[int] = []
        values: list[float] = []
        if self._values:
            first = base + start
            for number in sorted(number for number in self._values if number >= first):
                told = self._values[number]
                places += [number - first] * len(told)
                actions += told
                values += told.values()
        return SampleBody(
            self._items[start:],
            self._times[start:].tolist(),
            self._masks[start:].tolist(),
            self._groups[start:].tolist(),
            new,
            places,
            actions,
            values,
            self._kafka_ms,
        )

    def _exposure_of(self, item_id: str, ts_ms: int, request: int) -> int:
        """Number of the exposure that an action belongs to, or that there is none, or that this cannot be told."""
        oldest = ts_ms - self._window_ms
        number = None
        if request:
            if len(self._requests) >= MAX_REQUESTS:
                return _UNKNOWN
            self._requests.add(request)
            number = self._named.get((request, item_id))
            if number is None and self._blind_ts >= oldest:
                return _UNKNOWN
        if number is None or self._times[number - self._base] < oldest:
            number = self._shown.get(item_id)
        if number is None:
            return _UNKNOWN if self._blind_ts >= oldest else _NONE
        return number if self._times[number - self._base] >= oldest else _NONE

    def _shorten(self) -> None:
        gone = len(self._items) - self._last
        if self._shown:
            self._blind_ts = self._times[gone - 1]
        for column in (self._items, self._times, self._masks, self._groups):
            del column[:gone]
        self._base += gone
        self._shown = {item_id: number for item_id, number in self._shown.items() if number >= self._base}
        self._named = {exposure: number for exposure, number in self._named.items() if number >= self._base}
        self._values = {number: told for number, told in self._values.items() if number >= self._base}
