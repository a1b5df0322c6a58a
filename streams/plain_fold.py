"""The state that a log must lead to, computed the plain way: lists and dictionaries, one record after the other.

It shares no code with the store on purpose: `verify` holds the one against the other. The rules are in the README of
`storage`.
"""

import heapq
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from xxhash import xxh3_64_intdigest

from storage.store_settings import StoreSettings
from streams.events import Action, Event, Forget, Impression, Tick, UserUpdate

_SCATTER = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldRules:
    """The settings that shape state; times in milliseconds, 0 for a timer that is off."""

    actions: tuple[str, ...]
    cap: int
    sample_every: int
    sample_exposures: int
    attribution_ms: int
    label_delay_ms: int
    session_gap_ms: int
    exposure_rate: float

    @classmethod
    def of(cls, settings: StoreSettings) -> Self:
        """The rules that a store of these settings follows."""
        return cls(
            actions=settings.actions,
            cap=settings.cap,
            sample_every=settings.sample_every,
            sample_exposures=settings.sample_exposures,
            attribution_ms=round(settings.attribution_seconds * 1000),
            label_delay_ms=round(settings.label_delay_seconds * 1000),
            session_gap_ms=round(settings.session_gap_seconds * 1000),
            exposure_rate=settings.exposure_rate,
        )


class PlainRow(NamedTuple):
    """One shown item, or one action."""

    position: int
    slot: int
    """Place in the impression; 0 for an action."""
    ts_ms: int
    kafka_ms: int
    item_id: str
    request_id: str | None
    action: int
    """Index into the rules' actions; -1 for an exposure."""
    value: float | None
    event: int
    """Hash of the event's id; 0 without one."""

    @property
    def order(self) -> tuple[int, int, int, int, int]:
        """What sequences are sorted by."""
        return self.ts_ms, self.event, self.slot, _hash(self.item_id), self.action


@dataclass(slots=True)
class PlainEvent:
    """One event of a sequence: an exposure or an organic action, and the actions on it in the order of arrival."""

    row: PlainRow
    acts: list[PlainRow]

    @property
    def place(self) -> tuple[int, int]:
        """(group, index): what tells it from the other events of its user."""
        return self.row.position, self.row.slot

    @property
    def shown(self) -> bool:
        """Whether it is an exposure."""
        return self.row.action < 0

    @property
    def actions(self) -> int:
        """Bit mask over the rules' actions."""
        mask = 0
        for act in self.acts:
            mask |= 1 << act.action
        return mask

    @property
    def values(self) -> list[tuple[int, float]]:
        """The newest (action, value) of each action type that came with one, in the order of time, then of types."""
        newest = {act.action: act for act in sorted(self.acts, key=_time) if act.value is not None}
        return [(act.action, act.value) for act in sorted(newest.values(), key=_time) if act.value is not None]

    @property
    def acted(self) -> int:
        """Position of the first action to arrive; -1 without one."""
        return self.acts[0].position if self.acts else -1

    @property
    def last(self) -> int:
        """Position of the newest row to arrive."""
        return max(row.position for row in (self.row, *self.acts))

    def telling(self) -> Iterable[PlainRow]:
        """The rows that a trim leaves of it."""
        chosen = {self.place: self.row}
        for action in {act.action for act in self.acts}:
            of_type = [act for act in self.acts if act.action == action]
            valued = sorted((act for act in of_type if act.value is not None), key=_time)
            chosen |= {(row.position, row.slot): row for row in (of_type[0], of_type[-1], *valued[-1:])}
        return chosen.values()


def _hash(text: str) -> int:
    return xxh3_64_intdigest(text.encode())


def _time(row: PlainRow) -> tuple[int, int]:
    return row.ts_ms, row.action


def fold_rows(rows: Iterable[PlainRow], window_ms: int) -> list[PlainEvent]:
    """The events of rows that stand in the order of arrival; bare exposures are all in it."""
    distinct = {(row.ts_ms, row.item_id, row.action): row for row in reversed(list(rows))}
    arrived = sorted(distinct.values(), key=lambda row: (row.position, row.slot))
    events = [PlainEvent(row, []) for row in sorted((row for row in arrived if row.action < 0), key=_order)]
    shown: dict[tuple[str, str | None], list[PlainEvent]] = {}
    for event in events:
        for request_id in {None, event.row.request_id}:
            shown.setdefault((event.row.item_id, request_id), []).append(event)
    for row in arrived:
        if row.action < 0:
            continue
        named = shown.get((row.item_id, row.request_id), []) if row.request_id is not None else []
        target = _newest(named, row.ts_ms - window_ms, row.ts_ms + window_ms)
        target = target or _newest(shown.get((row.item_id, None), []), row.ts_ms - window_ms, row.ts_ms)
        if target is None:
            events.append(PlainEvent(row, [row]))
        else:
            target.acts.append(row)
    return sorted(events, key=lambda event: event.row.order)


def _order(row: PlainRow) -> tuple[int, int, int, int, int]:
    return row.order


def _newest(events: list[PlainEvent], earliest_ms: int, latest_ms: int) -> PlainEvent | None:
    place = bisect_right(events, latest_ms, key=lambda event: event.row.ts_ms)
    return events[place - 1] if place and events[place - 1].row.ts_ms >= earliest_ms else None


def is_sampled(event: PlainEvent, rate: float) -> bool:
    """Whether a sequence holds the event: a bare exposure only at the exposure rate."""
    mixed = event.row.event ^ _hash(event.row.item_id) ^ event.row.ts_ms
    return bool(event.acts) or rate == 1 or (mixed * _SCATTER & _MASK) < rate * 2**64


class PlainUpdate(NamedTuple):
    """One feature of a user, as it was told; the order of fields but the last is that of the series."""

    ts_ms: int
    position: int
    name: str
    value: str | int | float | bool


class PlainDue(NamedTuple):
    """A sample that became due: the records of its user in (since, position]; none where the user was forgotten."""

    position: int
    n: int
    user_id: str
    since: int
    num_records: int


@dataclass(slots=True)
class PlainUser:
    """A user's rows in the order of arrival, and how far its records are due to be learned."""

    rows: list[PlainRow] = field(default_factory=list)
    updates: list[PlainUpdate] = field(default_factory=list)
    event_ids: set[int] = field(default_factory=set)
    """Hashes of the ids of the events that `rows` holds."""
    floor_ms: int = -1
    """What is older is refused as too late."""
    num_left: int = 0
    """Rows that the last trim left."""
    first_ms: int = 0
    """Time of the first record that is in no sample."""
    last_ms: int = 0
    has_timer: bool = False
    due_position: int = -1
    due_records: int = 0
    pending_actions: int = 0
    pending_exposures: int = 0
    duplicates: int = 0
    too_late: int = 0
    capped_out: int = 0
    """Events that trims dropped."""
    sampled_out: int = 0
    """Bare exposures that trims dropped as not to be kept by the exposure rate."""

    @property
    def pending_records(self) -> int:
        """Records that are in no sample yet."""
        return self.pending_actions + self.pending_exposures

    @property
    def num_records(self) -> int:
        """Records that were stored, whatever has become of them."""
        return self.due_records + self.pending_records

    def add(self, rows: list[PlainRow], rules: FoldRules) -> bool:
        """Take in the rows of one record; returns whether a sample is due for their number."""
        if rows[0].event in self.event_ids:
            self.duplicates += 1
            return False
        if rows[0].ts_ms < self.floor_ms:
            self.too_late += 1
            return False
        self.first_ms = self.first_ms if self.pending_records else rows[0].ts_ms
        self.last_ms = max(self.last_ms, rows[0].ts_ms)
        is_action = rows[0].action >= 0
        self.pending_actions += is_action
        self.pending_exposures += 0 if is_action else len(rows)
        self.rows += rows
        self.event_ids |= {rows[0].event} - {0}
        if len(self.rows) >= 2 * max(rules.cap, self.num_left):
            self._trim(rules)
        return self.pending_actions >= rules.sample_every or self.pending_exposures >= rules.sample_exposures

    def timer(self, rules: FoldRules) -> int | None:
        """When what is pending is due; None where no timer is set."""
        due = []
        if rules.label_delay_ms:
            due.append(self.first_ms + rules.label_delay_ms)
        if rules.session_gap_ms:
            due.append(self.last_ms + rules.session_gap_ms)
        return min(due, default=None)

    def trigger(self, position: int) -> tuple[int, int]:
        """A sample is due at this position; returns where its range begins, and its number of records."""
        found = self.due_position, self.pending_records
        self.due_position = position
        self.due_records += self.pending_records
        self.pending_actions = self.pending_exposures = 0
        return found

    def sequence(self, rules: FoldRules) -> tuple[list[PlainEvent], int]:
        """The events in order of time, and how many bare exposures the exposure rate left out of them."""
        events = fold_rows(self.rows, rules.attribution_ms)
        sampled = [event for event in events if is_sampled(event, rules.exposure_rate)]
        return sampled, len(events) - len(sampled)

    def _trim(self, rules: FoldRules) -> None:
        events, sampled_out = self.sequence(rules)
        kept = [event for event in events if event.acts][-rules.cap :]
        bare = [event for event in events if not event.acts]
        kept += bare[max(0, len(bare) - (rules.cap - len(kept))) :]
        if len(kept) == rules.cap:
            self.floor_ms = min(event.row.ts_ms for event in kept)
        self.capped_out += len(events) - len(kept)
        self.sampled_out += sampled_out
        self.rows = sorted((row for event in kept for row in event.telling()), key=lambda row: row[:2])
        self.event_ids = {row.event for row in self.rows} - {0}
        self.num_left = len(self.rows)


class PlainPartition:
    """The users of one source partition, its event-time watermark, and the timers that it fires."""

    def __init__(self, rules: FoldRules) -> None:
        self.rules = rules
        self.users: dict[str, PlainUser] = {}
        self.watermark_ms = 0
        self._timers: list[tuple[int, bytes]] = []

    @property
    def num_timers(self) -> int:
        """Users for whom a timer is set."""
        return len(self._timers)

    def apply(self, event: Event, position: int, kafka_ms: int) -> list[PlainDue]:
        """Take in the next record; returns the samples that it made due."""
        due: list[PlainDue] = []
        if isinstance(event, Forget):
            self._forget(event.user_id)
            return [PlainDue(position, 0, event.user_id, -1, 0)]
        if isinstance(event, UserUpdate):
            told = [PlainUpdate(event.ts_ms, position, name, value) for name, value in event.features.items()]
            self.users.setdefault(event.user_id, PlainUser()).updates.extend(told)
        elif not isinstance(event, Tick):
            user = self.users.setdefault(event.user_id, PlainUser())
            if user.add(_rows(event, position, kafka_ms, self.rules), self.rules):
                due.append(PlainDue(position, 0, event.user_id, *user.trigger(position)))
            self._arm(event.user_id, user)
        self.watermark_ms = max(self.watermark_ms, event.ts_ms)
        while self._timers and self._timers[0][0] <= self.watermark_ms:
            user_id = heapq.heappop(self._timers)[1].decode()
            user = self.users[user_id]
            user.has_timer = False
            timer = user.timer(self.rules)
            if user.pending_records and timer is not None and timer <= self.watermark_ms:
                due.append(PlainDue(position, len(due), user_id, *user.trigger(position)))
            self._arm(user_id, user)
        return due

    def _forget(self, user_id: str) -> None:
        former = self.users.get(user_id, PlainUser())
        counts = {name: getattr(former, name) for name in ("duplicates", "too_late", "capped_out", "sampled_out")}
        self.users[user_id] = PlainUser(**counts)
        self._timers = [timer for timer in self._timers if timer[1] != user_id.encode()]
        heapq.heapify(self._timers)

    def _arm(self, user_id: str, user: PlainUser) -> None:
        if user.has_timer or not user.pending_records:
            return
        timer = user.timer(self.rules)
        if timer is not None:
            user.has_timer = True
            heapq.heappush(self._timers, (timer, user_id.encode()))


def _rows(event: Impression | Action, position: int, kafka_ms: int, rules: FoldRules) -> list[PlainRow]:
    event_hash = _hash(event.event_id) if event.event_id else 0
    if isinstance(event, Action):
        action = rules.actions.index(event.action)
        told = (event.item_id, event.request_id, action, event.value, event_hash)
        return [PlainRow(position, 0, event.ts_ms, kafka_ms, *told)]
    return [
        PlainRow(position, index, event.ts_ms, kafka_ms, item_id, event.request_id, -1, None, event_hash)
        for index, item_id in enumerate(event.items)
    ]
