"""Made-up changes, and what the store must make of them, the plain way and without any of its code."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import xxhash

from storage.changes import Acted, Change, Exposed, Forgot, Refused, Ticked, Updated
from storage.folded import FoldedSequence
from storage.sequence_store import SequenceStore

StoreFactory: TypeAlias = Callable[..., SequenceStore]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainRules:
    """Settings that shape state; times in milliseconds, 0 for a timer that is off."""

    cap: int = 50
    window_ms: int = 20
    rate: float = 1.0
    sample_every: int = 2
    sample_exposures: int = 4
    label_delay_ms: int = 0
    session_gap_ms: int = 0

    def settings(self) -> dict[str, Any]:
        """The same as the store takes them."""
        return {
            "cap": self.cap,
            "attribution_seconds": self.window_ms / 1000,
            "exposure_rate": self.rate,
            "sample_every": self.sample_every,
            "sample_exposures": self.sample_exposures,
            "label_delay_seconds": self.label_delay_ms / 1000,
            "session_gap_seconds": self.session_gap_ms / 1000,
        }


@dataclass(slots=True)
class PlainRow:
    """One exposure or action."""

    position: int
    index: int
    ts_ms: int
    item_id: str
    request_id: str | None
    event_id: str | None
    action: int
    value: float | None

    @property
    def place(self) -> tuple[int, int, int, int, int]:
        """Where its event stands."""
        event = _hash(self.event_id) if self.event_id else 0
        return self.ts_ms, event, self.index, _hash(self.item_id), self.action


@dataclass(slots=True)
class PlainEvent:
    """An exposure or an organic action, with the actions on it."""

    row: PlainRow
    actions: list[PlainRow] = field(default_factory=list)

    def summary(self) -> tuple[Any, ...]:
        """What a read tells of it."""
        values: dict[int, float] = {}
        for row in sorted(self.actions, key=lambda row: (row.ts_ms, row.position)):
            if row.value is not None:
                values.pop(row.action, None)
                values[row.action] = row.value
        return (
            self.row.item_id,
            self.row.ts_ms,
            sum({1 << row.action for row in self.actions}),
            self.row.position,
            self.row.index,
            min((row.position for row in self.actions), default=-1),
            max(row.position for row in (self.row, *self.actions)),
            sorted(values.items()),
        )


@dataclass(slots=True)
class PlainUser:
    """A user's rows and what is pending."""

    rows: list[PlainRow] = field(default_factory=list)
    since: int = -1
    num_actions: int = 0
    num_exposures: int = 0
    first_ts: int = 0
    last_ts: int = -(2**62)
    floor_ts: int = -(2**62)
    survivors: int = 0
    timer_due: int = 0


class PlainStore:
    """Everything that a store holds of one epoch, as of the last change."""

    def __init__(self, rules: PlainRules) -> None:
        self.rules = rules
        self.users: dict[str, PlainUser] = {}
        self.samples: list[tuple[int, int, str, int, int]] = []
        """(position, n, user, since, number of rows pending)."""
        self.counts = {"duplicates": 0, "too_late": 0}
        self._watermark = 0

    def apply(self, changes: Iterable[Change]) -> None:
        """Take in changes in the order of the log."""
        for change in changes:
            if isinstance(change, Refused):
                continue
            if isinstance(change, Forgot):
                self.users.pop(change.user_id, None)
                continue
            self._watermark = max(self._watermark, change.ts_ms)
            due: list[tuple[int, bytes]] = []
            if isinstance(change, Exposed | Acted) and self._take(change):
                self._count(change.user_id, change.offset)
            for user_id, user in self.users.items():
                if 0 < user.timer_due <= self._watermark:
                    due.append((user.timer_due, user_id.encode()))
            for _, name in sorted(due):
                self._fire(name.decode(), change.offset)

    def events(self, user_id: str) -> list[PlainEvent]:
        """A user's sequence."""
        return plain_fold(self.users[user_id].rows, self.rules)

    def _take(self, change: Exposed | Acted) -> bool:
        user = self.users.setdefault(change.user_id, PlainUser())
        if change.event_id and any(row.event_id == change.event_id for row in user.rows):
            self.counts["duplicates"] += 1
            return False
        if change.ts_ms < user.floor_ts:
            self.counts["too_late"] += 1
            return False
        items = change.item_ids if isinstance(change, Exposed) else [change.item_id]
        common = (change.request_id, change.event_id, change.action, change.value)
        rows = [PlainRow(change.offset, index, change.ts_ms, item, *common) for index, item in enumerate(items)]
        user.rows += rows
        if not user.num_actions + user.num_exposures:
            user.first_ts = change.ts_ms
        user.last_ts = max(user.last_ts, change.ts_ms)
        if isinstance(change, Acted):
            user.num_actions += 1
        else:
            user.num_exposures += len(rows)
        if len(user.rows) >= 2 * max(self.rules.cap, user.survivors):
            self._trim(user)
        return True

    def _count(self, user_id: str, position: int) -> None:
        user = self.users[user_id]
        if user.num_actions >= self.rules.sample_every or user.num_exposures >= self.rules.sample_exposures:
            self._trigger(user_id, position)
        elif not user.timer_due:
            user.timer_due = self._due(user)

    def _due(self, user: PlainUser) -> int:
        delay, gap = self.rules.label_delay_ms, self.rules.session_gap_ms
        return min([user.first_ts + delay] * (delay > 0) + [user.last_ts + gap] * (gap > 0), default=0)

    def _fire(self, user_id: str, position: int) -> None:
        user = self.users[user_id]
        user.timer_due = 0
        if user.num_actions + user.num_exposures:
            due = self._due(user)
            if due <= self._watermark:
                self._trigger(user_id, position)
            else:
                user.timer_due = due

    def _trigger(self, user_id: str, position: int) -> None:
        user = self.users[user_id]
        n = sum(sample[0] == position for sample in self.samples)
        self.samples.append((position, n, user_id, user.since, user.num_actions + user.num_exposures))
        user.since, user.num_actions, user.num_exposures = position, 0, 0

    def _trim(self, user: PlainUser) -> None:
        events = plain_fold(user.rows, self.rules)
        acted = [event for event in events if event.actions][-self.rules.cap :]
        bare = [event for event in events if not event.actions]
        kept = acted + bare[max(0, len(bare) - (self.rules.cap - len(acted))) :]
        user.rows = sorted(
            (row for event in kept for row in _telling(event)), key=lambda row: (row.position, row.index)
        )
        user.survivors = len(user.rows)
        if len(kept) == self.rules.cap:
            user.floor_ts = min(event.row.ts_ms for event in kept)


def plain_fold(rows: list[PlainRow], rules: PlainRules) -> list[PlainEvent]:
    """A user's sequence from rows in order of arrival."""
    seen: set[tuple[int, str, int]] = set()
    events: list[PlainEvent] = []
    actions: list[PlainRow] = []
    for row in rows:
        if (row.ts_ms, row.item_id, row.action) not in seen:
            seen.add((row.ts_ms, row.item_id, row.action))
            if row.action < 0:
                events.append(PlainEvent(row))
            else:
                actions.append(row)
    shown = list(events)
    for action in actions:
        of_item = [event for event in shown if event.row.item_id == action.item_id]
        named = [
            event
            for event in of_item
            if action.request_id
            and event.row.request_id == action.request_id
            and abs(event.row.ts_ms - action.ts_ms) <= rules.window_ms
        ]
        within = [event for event in of_item if 0 <= action.ts_ms - event.row.ts_ms <= rules.window_ms]
        target = max(named or within, key=lambda event: event.row.ts_ms, default=None)
        if target is None:
            events.append(PlainEvent(action, [action]))
        else:
            target.actions.append(action)
    kept = [event for event in events if event.actions or is_sampled(event.row, rules.rate)]
    return sorted(kept, key=lambda event: event.row.place)


def summaries(sequence: FoldedSequence) -> list[tuple[Any, ...]]:
    """A read's events as `PlainEvent.summary` gives them."""
    values: dict[int, list[tuple[int, float]]] = {}
    columns = (sequence.value_places, sequence.value_actions, sequence.values)
    for place, action, value in zip(*(column.tolist() for column in columns), strict=True):
        values.setdefault(place, []).append((action, value))
    names = ("ts_ms", "actions", "groups", "indexes", "acted", "last")
    rows = zip(sequence.item_ids, *(getattr(sequence, name).tolist() for name in names), strict=True)
    return [(*row, sorted(values.get(place, []))) for place, row in enumerate(rows)]


def make_changes(num: int, *, seed: int = 0, users: int = 3, items: int = 4, shown: int = 3) -> list[Change]:
    """Changes at nearly every offset below `num`: few users and items, times that wander and lag, and duplicates."""
    rng = random.Random(seed)
    changes: list[Change] = []
    for offset in range(num):
        if changes and rng.random() < 0.1:
            again = rng.choice(changes[-40:])
            if isinstance(again, Exposed | Acted):
                changes.append(_moved(again, offset))
                continue
        change = _change(rng, offset, f"user{rng.randrange(users)}", items, shown)
        if change is not None:
            changes.append(change)
    return changes


def _moved(change: Exposed | Acted, offset: int) -> Change:
    names = [name for name in change.__struct_fields__ if name != "offset"]
    return type(change)(offset=offset, **{name: getattr(change, name) for name in names})


def _change(rng: random.Random, offset: int, user_id: str, items: int, shown: int) -> Change | None:
    kind = rng.random()
    ts_ms = max(0, 100 + offset + rng.randrange(-30, 6))
    event_id = f"e{offset}" if rng.random() < 0.7 else None
    request_id = rng.choice([None, "r1", "r2"])
    if kind < 0.4:
        item_ids = [f"item{rng.randrange(items)}" for _ in range(rng.randint(1, shown))]
        return Exposed(offset, user_id, ts_ms, offset, item_ids, request_id, event_id)
    if kind < 0.85:
        item_id, value = f"item{rng.randrange(items)}", rng.choice([None, 1.0, -2.5])
        return Acted(offset, user_id, ts_ms, offset, item_id, rng.randrange(4), value, request_id, event_id)
    if kind < 0.9:
        return Updated(offset, user_id, ts_ms, {rng.choice("ab"): offset})
    if kind < 0.93:
        return Ticked(offset, 100 + offset + rng.randrange(20))
    if kind < 0.97:
        return Refused(
            offset=offset, kafka_ms=offset, cause="malformed_json", message="?", key=b"k", head=b"{", size=1, sha256="0"
        )
    return None


def _telling(event: PlainEvent) -> list[PlainRow]:
    chosen = {(event.row.position, event.row.index): event.row}
    for action in {row.action for row in event.actions}:
        of_type = [row for row in event.actions if row.action == action]
        valued = [row for row in of_type if row.value is not None]
        newest = sorted(valued, key=lambda row: (row.ts_ms, row.position))[-1:]
        for row in (of_type[0], of_type[-1], *newest):
            chosen[row.position, row.index] = row
    return list(chosen.values())


def is_sampled(row: PlainRow, rate: float) -> bool:
    """Whether an exposure is kept without an action, too."""
    event = _hash(row.event_id) if row.event_id else 0
    mixed = (event ^ _hash(row.item_id) ^ row.ts_ms) * 0x9E3779B97F4A7C15 % 2**64
    return rate == 1 or mixed < int(rate * 2**64)


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())
