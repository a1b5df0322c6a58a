"""One user's records of a chunk, worked through one by one: duplicates, late ones, trims, samples, timers."""

from dataclasses import dataclass

import msgspec
from rocksdict import WriteBatch

from storage.arrivals import Arrivals
from storage.changes import Acted, Exposed
from storage.entries import NO_ENTRIES, Entries, entries_from
from storage.keys import MAX_POSITION
from storage.pending import DueSample, trigger
from storage.reading import View
from storage.recent import RecentEvents
from storage.rooms import Rooms
from storage.timeline import Timeline
from storage.trim import trim_entries
from storage.user_state import UserState


class Applied(msgspec.Struct, kw_only=True):
    """What applying a chunk did."""

    exposed: int = 0
    """Rows for items that were shown."""
    acted: int = 0
    """Rows for actions."""
    updated: int = 0
    refused: int = 0
    skipped: int = 0
    """Changes that had been applied before."""
    duplicates: int = 0
    """Records whose event id the user's sequence keeps already."""
    too_late: int = 0
    """Records older than everything that a full sequence keeps."""
    trimmed: int = 0
    """Rows that left a sequence that was full."""
    samples: int = 0
    """Samples that became due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the users' runs through one chunk share."""

    rooms: Rooms
    arrivals: Arrivals
    timeline: Timeline
    before: list[int]
    """The watermark before each record."""
    batch: WriteBatch
    applied: Applied
    samples: list[DueSample]
    """Samples that became due."""


class UserRun:
    """Takes the records [start, end) of one user, one after the other.

    1. Before each record, the user's timer fires where the watermark had passed it.
    2. A duplicate by event id changes nothing; one older than the floor of a full sequence is counted.
    3. A sequence with too many rows is trimmed.
    4. The record is pending: a sample is due by count, or a timer is set.

    `known` are the event ids of which the user has a row, None where no record can have one of them; `oldest_pending`
    is the position of the user's oldest sample that is still to be sent.
    """

    __slots__ = (
        "_base",
        "_course",
        "_is_suspect",
        "_known",
        "_limit",
        "_num_acted",
        "_num_shown",
        "_oldest_pending",
        "_recent",
        "_set_at",
        "_taken",
        "state",
        "user_id",
    )

    def __init__(
        self, course: Course, user_id: str, state: UserState, *, known: set[int] | None, oldest_pending: int | None
    ) -> None:
        self.user_id = user_id
        self.state = state
        self._course = course
        self._is_suspect = known is not None
        self._known = known or set()
        self._oldest_pending = oldest_pending
        self._recent = course.rooms.prepared.recent(user_id)
        self._limit = course.rooms.rules.limit(state)
        self._taken: list[int] = []
        self._base: Entries | None = None
        self._set_at = -1
        self._num_acted = self._num_shown = 0

    def run(self, start: int, end: int) -> None:
        """Work through the records, write the rows, and count what was done."""
        state, course, taken = self.state, self._course, self._taken
        changes, positions, requests = course.arrivals.changes, course.arrivals.positions, course.arrivals.requests
        before = course.before
        for record in range(start, end):
            change, position = changes[record], positions[record]
            if 0 < state.timer_due <= before[record]:
                self._fire_until(position - 1)
            if (self._is_suspect or change.ts_ms < state.floor_ts) and not self._is_fresh(record):
                continue
            taken.append(record)
            if self._recent is not None and not self._recent.follow(change, position, requests[record]):
                self._recent = None
            self._count(change, position)
        if 0 < state.timer_due <= course.timeline.end_ms:
            self._fire_until(MAX_POSITION)
        self._write()
        course.applied.acted += self._num_acted
        course.applied.exposed += self._num_shown
        if self._recent is not None:
            course.rooms.prepared.keep(self.user_id, self._recent)

    def _is_fresh(self, record: int) -> bool:
        applied, arrivals = self._course.applied, self._course.arrivals
        event = arrivals.events[record]
        if event and event in self._known:
            applied.duplicates += 1
            return False
        if arrivals.changes[record].ts_ms < self.state.floor_ts:
            applied.too_late += 1
            return False
        self._known.add(event)
        return True

    def _count(self, change: Exposed | Acted, position: int) -> None:
        """Count a record among the rows and as pending."""
        state, rules, ts_ms = self.state, self._course.rooms.rules, change.ts_ms
        num = 1 if isinstance(change, Acted) else len(change.item_ids)
        state.num_rows += num
        if state.num_rows >= self._limit:
            self._trim(position)
        if not (state.num_actions or state.num_exposures):
            state.first_ts = ts_ms
        if ts_ms > state.last_ts:
            state.last_ts = ts_ms
        if change.action >= 0:
            state.num_actions += 1
            self._num_acted += 1
        else:
            state.num_exposures += num
            self._num_shown += num
        if state.num_actions >= rules.sample_every or state.num_exposures >= rules.sample_exposures:
            self._trigger(position, 0)
        elif not state.timer_due:
            state.timer_due = rules.due(state.first_ts, state.last_ts)
            self._set_at = position

    def _fire_until(self, position: int) -> None:
        """Fire the user's timer at the records up to a position."""
        state, timeline, rules = self.state, self._course.timeline, self._course.rooms.rules
        while state.timer_due:
            at = timeline.fires_at(state.timer_due, self._set_at)
            if at is None or at > position:
                return
            due_ms, state.timer_due = state.timer_due, 0
            if state.num_pending:
                due = rules.due(state.first_ts, state.last_ts)
                if due <= timeline.watermark_at(at):
                    self._trigger(at, due_ms)
                else:
                    state.timer_due = due
                    self._set_at = at

    def _trigger(self, position: int, due_ms: int) -> None:
        prepared = self._course.rooms.prepared
        if prepared.has_room and self._recent is None:
            self._recent = self._read_recent()
        if self._recent is not None:
            if prepared.has_room:
                prepared.add(self.user_id, position, self._recent.sample())
            self._recent.begin()
        self._course.samples.append(trigger(self.user_id, self.state, position, due_ms))
        if self._oldest_pending is None:
            self._oldest_pending = position

    def _read_recent(self) -> RecentEvents:
        reading, prepared = self._course.rooms.reading, self._course.rooms.prepared
        arrivals = self._course.arrivals
        if self._base is not None:
            view = View.whole(Entries.join([self._base, arrivals.entries(self._taken)]))
        else:
            view = reading.view(self.user_id, self.state, self.state.generation)
            view.add(arrivals.value(self._taken))
        found = reading.read_back(view, until=MAX_POSITION, last=prepared.last, since=self.state.since)
        return RecentEvents.of(found, self.state, last=prepared.last, window_ms=reading.window_ms, names=prepared.names)

    def _trim(self, position: int) -> None:
        course, state = self._course, self.state
        sealed = NO_ENTRIES
        if self._base is None:
            sealed = course.rooms.reading.in_blocks(self.user_id, state)
            self._base = entries_from(course.rooms.fragments.take_tail(course.batch, self.user_id, state))
        unsealed = Entries.join([self._base, course.arrivals.entries(self._taken)])
        trimmed = trim_entries(course.rooms.reading.fold(Entries.join([sealed, unsealed])), course.rooms.rules.cap)
        if self._oldest_pending is not None:
            course.rooms.fragments.seal(course.batch, self.user_id, state, unsealed)
        course.rooms.fragments.begin_generation(course.batch, self.user_id, state, position, self._oldest_pending)
        course.applied.trimmed += state.num_rows - len(trimmed.entries)
        self._base, self._recent = trimmed.entries, None
        self._taken.clear()
        self._known -= trimmed.dropped
        state.num_rows = state.num_survivors = len(trimmed.entries)
        if trimmed.floor_ts is not None:
            state.floor_ts = trimmed.floor_ts
        self._limit = course.rooms.rules.limit(state)

    def _write(self) -> None:
        course, state, taken = self._course, self.state, self._taken
        if self._base is not None:
            entries = Entries.join([self._base, course.arrivals.entries(taken)])
            course.rooms.fragments.seal(course.batch, self.user_id, state, entries)
        elif taken:
            if state.old:
                course.rooms.fragments.drop_old(course.batch, self.user_id, state, self._oldest_pending)
            position = course.arrivals.positions[taken[0]]
            course.rooms.fragments.append(course.batch, self.user_id, state, position, course.arrivals.value(taken))
