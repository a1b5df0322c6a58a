"""One user's records of a chunk, worked through one by one: duplicates, late ones, trims, samples, timers."""

import msgspec
from rocksdict import WriteBatch

from storage.arrivals import Arrivals
from storage.entries import NO_ENTRIES, Entries, entries_from
from storage.fragments import Fragments
from storage.keys import MAX_POSITION
from storage.pending import DueSample, Rules, count_records, trigger
from storage.reading import Reading
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


class UserRun:
    """Takes the records [start, end) of one user, one after the other.

    1. Before each record, the user's timer fires where the watermark had passed it.
    2. A duplicate by event id changes nothing; one older than the floor of a full sequence is counted.
    3. A sequence with too many rows is trimmed.
    4. The record is pending: a sample is due by count, or a timer is set.
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
        self.samples: list[DueSample] = []
        """Samples that became due."""
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
        for record in range(start, end):
            position = self._arrivals.positions[record]
            self._fire_until(position - 1)
            if self._take(record, applied):
                if self.state.num_rows >= self._rules.limit(self.state):
                    applied.trimmed += self._trim(position, reading, fragments, batch)
                self._count(record, position)
            self._fire_until(position)
        self._fire_until(MAX_POSITION)
        self._write(fragments, batch)

    def _take(self, record: int, applied: Applied) -> bool:
        event = self._arrivals.events[record]
        if event and event in self._known:
            applied.duplicates += 1
            return False
        if self._arrivals.ts_ms[record] < self.state.floor_ts:
            applied.too_late += 1
            return False
        num = self._arrivals.num_rows(record, record + 1)
        self._taken.append(record)
        self._known.add(event)
        self.state.num_rows += num
        if self._arrivals.is_action[record]:
            applied.acted += 1
        else:
            applied.exposed += num
        return True

    def _count(self, record: int, position: int) -> None:
        timer_due = self.state.timer_due
        self.samples += count_records(self._rules, self.user_id, self.state, self._arrivals, record, record + 1)
        if self.state.timer_due != timer_due:
            self._set_at = position

    def _fire_until(self, position: int) -> None:
        """Fire the user's timer at the records up to a position."""
        state = self.state
        while state.timer_due:
            at = self._timeline.fires_at(state.timer_due, self._set_at)
            if at is None or at > position:
                return
            due_ms, state.timer_due = state.timer_due, 0
            if state.num_pending:
                due = self._rules.due(state.first_ts, state.last_ts)
                if due <= self._timeline.watermark_at(at):
                    self.samples.append(trigger(self.user_id, state, at, due_ms))
                else:
                    state.timer_due = due
                    self._set_at = at

    def _trim(self, position: int, reading: Reading, fragments: Fragments, batch: WriteBatch) -> int:
        sealed = NO_ENTRIES
        if self._base is None:
            sealed = reading.in_blocks(self.user_id, self.state)
            self._base = entries_from(fragments.take_tail(batch, self.user_id, self.state))
        unsealed = Entries.join([self._base, self._arrivals.chosen(self._taken)])
        trimmed = trim_entries(reading.fold(Entries.join([sealed, unsealed])), self._rules.cap)
        keep = self._has_pending or bool(self.samples)
        if keep:
            fragments.seal(batch, self.user_id, self.state, unsealed)
        fragments.begin_generation(batch, self.user_id, self.state, position, keep=keep)
        num_dropped = self.state.num_rows - len(trimmed.entries)
        self._base, self._taken = trimmed.entries, []
        self._known -= trimmed.dropped
        self.state.num_rows = self.state.num_survivors = len(trimmed.entries)
        if trimmed.floor_ts is not None:
            self.state.floor_ts = trimmed.floor_ts
        return num_dropped

    def _write(self, fragments: Fragments, batch: WriteBatch) -> None:
        new = [self._arrivals.chosen(self._taken)] if self._taken else []
        if self._base is not None:
            fragments.seal(batch, self.user_id, self.state, Entries.join([self._base, *new]))
        elif new:
            if self.state.old and not self._has_pending:
                fragments.drop_old(batch, self.user_id, self.state)
            position = self._arrivals.positions[self._taken[0]]
            fragments.append(batch, self.user_id, self.state, position, new[0].to_bytes())
