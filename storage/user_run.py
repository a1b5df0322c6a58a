"""One user's records of a chunk, worked through one by one: duplicates, late ones, trims, samples, timers."""

from dataclasses import dataclass

import msgspec
from rocksdict import WriteBatch

from storage.arrivals import Arrivals
from storage.changes import SampleRef
from storage.entries import Entries
from storage.fragments import Fragments
from storage.reading import Reading
from storage.store_settings import StoreSettings
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


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings in the units of the rows."""

    cap: int
    sample_every: int
    sample_exposures: int
    label_delay_ms: int
    session_gap_ms: int

    @classmethod
    def of(cls, settings: StoreSettings) -> "Rules":
        """Those of a store."""
        return cls(
            settings.cap,
            settings.sample_every,
            settings.sample_exposures,
            round(settings.label_delay_seconds * 1000),
            round(settings.session_gap_seconds * 1000),
        )

    def due(self, first_ts: int, last_ts: int) -> int:
        """When a timer is due of a user whose first pending record and newest one are of these times; 0: never."""
        times = []
        if self.label_delay_ms:
            times.append(first_ts + self.label_delay_ms)
        if self.session_gap_ms:
            times.append(last_ts + self.session_gap_ms)
        return min(times, default=0)

    def limit(self, state: UserState) -> int:
        """Rows at which a user's sequence is trimmed."""
        return 2 * max(self.cap, state.num_survivors)


class UserRun:
    """Takes the records [start, end) of one user; `finish` writes what has come of it.

    1. Before each record, the user's timer fires where the watermark had passed it.
    2. A duplicate by event id changes nothing; one older than the floor of a full sequence is counted.
    3. The rows are pending; a sequence with too many rows is trimmed.
    4. A sample is due by count.
    5. A timer is set where something is pending.
    """

    def __init__(
        self,
        rules: Rules,
        user_id: str,
        state: UserState,
        arrivals: Arrivals,
        timeline: Timeline,
        *,
        known: set[int],
        has_pending: bool,
    ) -> None:
        self.user_id = user_id
        self.state = state
        self.samples: list[tuple[int, int, SampleRef]] = []
        """(position, when the timer was due or 0, sample) of each sample that became due."""
        self.added: set[int] = set()
        """Hashes of event ids of which there are rows now."""
        self.dropped: set[int] = set()
        """Hashes of event ids of which there are none any more."""
        self._rules = rules
        self._arrivals = arrivals
        self._timeline = timeline
        self._known = known
        self._has_pending = has_pending
        self._taken: list[int] = []
        self._base: Entries | None = None
        self._set_at = -1

    def run(
        self, start: int, end: int, reading: Reading, fragments: Fragments, batch: WriteBatch, applied: Applied
    ) -> None:
        """Work through the records, write the rows, and count in `applied`."""
        positions = self._arrivals.positions
        for record in range(start, end):
            position = positions[record]
            self._fire_until(position - 1)
            if self._take(record, applied):
                if self.state.num_rows >= self._rules.limit(self.state):
                    applied.trimmed += self._trim(position, reading, fragments, batch)
                self._count(position)
            self._fire_until(position)
        self._fire_until(None)
        self._write(fragments, batch)

    def _take(self, record: int, applied: Applied) -> bool:
        event, ts_ms = self._arrivals.events[record], self._arrivals.ts_ms[record]
        if event and (event in self._known or event in self.added):
            applied.duplicates += 1
            return False
        state = self.state
        if ts_ms < state.floor_ts:
            applied.too_late += 1
            return False
        num = self._arrivals.num_rows(record, record + 1)
        self._taken.append(record)
        if event:
            self.added.add(event)
            self.dropped.discard(event)
        state.num_rows += num
        if not state.num_pending:
            state.first_ts = ts_ms
        state.last_ts = max(state.last_ts, ts_ms)
        if self._arrivals.is_action[record]:
            state.num_actions += 1
            applied.acted += 1
        else:
            state.num_exposures += num
            applied.exposed += num
        return True

    def _count(self, position: int) -> None:
        state, rules = self.state, self._rules
        if state.num_actions >= rules.sample_every or state.num_exposures >= rules.sample_exposures:
            self._trigger(position, 0)
        elif not state.timer_due:
            state.timer_due = rules.due(state.first_ts, state.last_ts)
            self._set_at = position

    def _trigger(self, position: int, due_ms: int) -> None:
        ref = SampleRef(user_id=self.user_id, since=self.state.since, num_records=self.state.num_pending)
        self.samples.append((position, due_ms, ref))
        self.state.trigger(position)

    def _fire_until(self, position: int | None) -> None:
        """Fire the user's timer at the records up to a position, or at all that are left."""
        state, rules = self.state, self._rules
        while state.timer_due:
            at = self._timeline.fires_at(state.timer_due, self._set_at)
            if at is None or (position is not None and at > position):
                return
            due_ms, state.timer_due = state.timer_due, 0
            if state.num_pending:
                due = rules.due(state.first_ts, state.last_ts)
                if due <= self._timeline.watermark_at(at):
                    self._trigger(at, due_ms)
                else:
                    state.timer_due = due
                    self._set_at = at

    def _trim(self, position: int, reading: Reading, fragments: Fragments, batch: WriteBatch) -> int:
        sealed: list[Entries] = []
        if self._base is None:
            sealed, unsealed = reading.all_entries(self.user_id, self.state)
        else:
            unsealed = [self._base]
        unsealed.append(self._arrivals.chosen(self._taken))
        trimmed = trim_entries(reading.fold(Entries.join([*sealed, *unsealed])), self._rules.cap)
        keep = self._has_pending or bool(self.samples)
        if self._base is None:
            fragments.take_tail(batch, self.user_id, self.state)
        if keep:
            fragments.seal(batch, self.user_id, self.state, Entries.join(unsealed))
        fragments.begin_generation(batch, self.user_id, self.state, position, keep=keep)
        num_dropped = self.state.num_rows - len(trimmed.entries)
        self._base, self._taken = trimmed.entries, []
        self._known -= trimmed.dropped
        self.added -= trimmed.dropped
        self.dropped |= trimmed.dropped
        self.state.num_rows = self.state.num_survivors = len(trimmed.entries)
        if trimmed.floor_ts is not None:
            self.state.floor_ts = trimmed.floor_ts
        return num_dropped

    def _write(self, fragments: Fragments, batch: WriteBatch) -> None:
        if self._base is not None:
            fragments.seal(batch, self.user_id, self.state, Entries.join([self._base, *self._new()]))
        elif self._taken:
            if self.state.old and not self._has_pending:
                fragments.drop_old(batch, self.user_id, self.state)
            fragments.append(batch, self.user_id, self.state, self._arrivals.chosen(self._taken))

    def _new(self) -> list[Entries]:
        return [self._arrivals.chosen(self._taken)] if self._taken else []
