"""One chunk of the log, worked through: users' rows and states, and what goes to the outbox.

Users whose records neither meet a limit nor were seen before are worked through in bulk; all others one record after
the other (`UserRun`). Both come to the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from rocksdict import WriteBatch

from storage.arrivals import Arrivals
from storage.changes import Acted, Change, Exposed, Refused, Updated
from storage.database import Database
from storage.entries import OFFSET_BITS, pack_position
from storage.fragments import Fragments
from storage.keys import OutboxKey, timer_key, user_key
from storage.outbox import Outbox, Outgoing
from storage.pending import DueSample, Rules, count_records
from storage.reading import Reading
from storage.timeline import Timeline
from storage.updates import append_updates
from storage.user_run import Applied, UserRun
from storage.user_state import UserState, decode_user, encode_user


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What a chunk is worked into."""

    db: Database
    rules: Rules
    fragments: Fragments
    reading: Reading
    outbox: Outbox


class Chunk:
    """Works changes into a batch; what has come of it stands in its attributes."""

    def __init__(self, rooms: Rooms, epoch: int, changes: Sequence[Change], watermark_ms: int) -> None:
        self._rooms = rooms
        self._epoch = epoch
        kinds = set(map(type, changes))
        self._refused = [change for change in changes if isinstance(change, Refused)] if Refused in kinds else []
        valid = [change for change in changes if not isinstance(change, Refused)]
        positions = [(epoch << OFFSET_BITS) | change.offset for change in valid]
        self.timeline = Timeline(watermark_ms, positions, [change.ts_ms for change in valid])
        self.arrivals = Arrivals(epoch, [change for change in valid if isinstance(change, Exposed | Acted)])
        self._updates = [change for change in valid if isinstance(change, Updated)] if Updated in kinds else []
        self._samples: list[DueSample] = []
        self.suspects: set[str] = set()
        """Users of whom a record has an id that may be kept already, or that comes twice."""
        self.applied = Applied()
        self.outgoing: list[tuple[OutboxKey, Outgoing]] = []
        """What goes to the outbox."""
        self.num_new_users = 0
        self.num_new_timers = 0
        """Timers set, less those gone."""
        self.first_due: int | None = None
        """When the first of the timers is due that were set."""

    def work(self, batch: WriteBatch, due_users: Iterable[str]) -> None:
        """Work all changes into the batch; `due_users` are those whose timers fire in it."""
        arrivals = self.arrivals
        idle = [user_id for user_id in due_users if not arrivals.has_user(user_id)]
        user_ids = [*arrivals.user_ids, *idle]
        bounds = [*arrivals.bounds, *((0, 0) for _ in idle)]
        values = self._rooms.db.get_many([user_key(user_id) for user_id in user_ids])
        for user_id, (start, end), value in zip(user_ids, bounds, values, strict=True):
            state = UserState() if value is None else decode_user(value)
            timer_due = state.timer_due
            if not self._work_in_bulk(batch, user_id, state, start, end):
                self._work_singly(batch, user_id, state, start, end)
            self.num_new_users += value is None
            batch.put(user_key(user_id), encode_user(state))
            if state.timer_due != timer_due:
                self._move_timer(batch, user_id, timer_due, state.timer_due)
        self._add_outgoing(batch)
        append_updates(self._rooms.db, batch, self._epoch, self._updates)
        self.applied.updated = len(self._updates)

    def _work_in_bulk(self, batch: WriteBatch, user_id: str, state: UserState, start: int, end: int) -> bool:
        """Take all records of a user at once; False, with nothing done, where one of them needs looking at."""
        arrivals, rules, end_ms = self.arrivals, self._rooms.rules, self.timeline.end_ms
        oldest_ts = min(arrivals.ts_ms[start:end], default=0)
        num_rows = arrivals.num_rows(start, end)
        if (
            start == end
            or user_id in self.suspects
            or state.num_rows + num_rows >= rules.limit(state)
            or oldest_ts < state.floor_ts
            or state.old
            or 0 < state.timer_due <= end_ms
            or (not state.timer_due and rules.least_wait_ms and oldest_ts + rules.least_wait_ms <= end_ms)
        ):
            return False
        self._samples += count_records(rules, user_id, state, arrivals, start, end)
        state.num_rows += num_rows
        num_actions = sum(arrivals.is_action[start:end])
        self.applied.acted += num_actions
        self.applied.exposed += num_rows - num_actions
        self._rooms.fragments.append(batch, user_id, state, arrivals.positions[start], arrivals.value(start, end))
        return True

    def _work_singly(self, batch: WriteBatch, user_id: str, state: UserState, start: int, end: int) -> None:
        rooms = self._rooms
        known = rooms.reading.event_ids(user_id, state) if user_id in self.suspects else set()
        has_pending = rooms.outbox.has_pending(user_id)
        run = UserRun(rooms.rules, user_id, state, self.arrivals, self.timeline, known=known, has_pending=has_pending)
        run.run(start, end, rooms.reading, rooms.fragments, batch, self.applied)
        self._samples += run.samples

    def _move_timer(self, batch: WriteBatch, user_id: str, former: int, due: int) -> None:
        if former:
            batch.delete(timer_key(former, user_id))
        if due:
            batch.put(timer_key(due, user_id), b"")
            self.first_due = due if self.first_due is None else min(self.first_due, due)
        self.num_new_timers += bool(due) - bool(former)

    def _add_outgoing(self, batch: WriteBatch) -> None:
        self._samples.sort(key=lambda sample: sample.rank)
        rank, before = 0, -1
        for sample in self._samples:
            rank = rank + 1 if sample.position == before else 0
            before = sample.position
            self.outgoing.append((OutboxKey(sample.position, rank), sample.ref))
        self.applied.samples = len(self._samples)
        for change in self._refused:
            self.outgoing.append((OutboxKey(pack_position(self._epoch, change.offset), 0), change))
        self.applied.refused = len(self._refused)
        self.outgoing.sort(key=itemgetter(0))
        for key, item in self.outgoing:
            self._rooms.outbox.put(batch, key, item)
