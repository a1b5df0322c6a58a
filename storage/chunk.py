"""One chunk of the log, worked through: users' rows and states, and what goes to the outbox.

Users whose records neither meet a limit nor were seen before are worked through in bulk; all others one record after
the other (`UserRun`). Both come to the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rocksdict import WriteBatch

from storage.arrivals import Arrivals
from storage.changes import Acted, Change, Exposed, Refused, SampleRef, Updated
from storage.database import Database
from storage.entries import pack_position
from storage.event_ids import EventIds
from storage.fragments import Fragments
from storage.keys import OutboxKey, timer_key, user_key
from storage.outbox import Outbox, Outgoing
from storage.reading import Reading
from storage.timeline import Timeline
from storage.updates import append_updates
from storage.user_run import Applied, Rules, UserRun
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
        self._changes = changes
        valid = [change for change in changes if not isinstance(change, Refused)]
        positions = [pack_position(epoch, change.offset) for change in valid]
        self.timeline = Timeline(watermark_ms, positions, [change.ts_ms for change in valid])
        self._arrivals = Arrivals(epoch, [change for change in valid if isinstance(change, Exposed | Acted)])
        self._updates = [change for change in valid if isinstance(change, Updated)]
        self._samples: list[tuple[int, int, SampleRef]] = []
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
        arrivals = self._arrivals
        event_ids = EventIds(self._rooms.db, arrivals)
        idle = [user_id for user_id in due_users if not arrivals.has_user(user_id)]
        user_ids = [*arrivals.user_ids, *idle]
        bounds = [*arrivals.bounds, *((0, 0) for _ in idle)]
        values = self._rooms.db.get_many([user_key(user_id) for user_id in user_ids])
        for user_id, (start, end), value in zip(user_ids, bounds, values, strict=True):
            state = UserState() if value is None else decode_user(value)
            timer_due = state.timer_due
            if not self._work_in_bulk(batch, event_ids, user_id, state, start, end):
                self._work_singly(batch, event_ids, user_id, state, start, end)
            if value is None and not state.num_rows:
                continue  # all that came of a new user was refused as too late or a duplicate
            self.num_new_users += value is None
            batch.put(user_key(user_id), encode_user(state))
            if state.timer_due != timer_due:
                self._move_timer(batch, user_id, timer_due, state.timer_due)
        self._add_outgoing(batch)
        append_updates(self._rooms.db, batch, self._epoch, self._updates)
        self.applied.updated = len(self._updates)

    def _work_in_bulk(
        self, batch: WriteBatch, event_ids: EventIds, user_id: str, state: UserState, start: int, end: int
    ) -> bool:
        """Take all records of a user at once; False, with nothing done, where one of them needs looking at."""
        rules, arrivals = self._rooms.rules, self._arrivals
        num_rows = arrivals.num_rows(start, end)
        num_actions = sum(arrivals.is_action[start:end])
        num_exposures = num_rows - (num_actions if end > start else 0)
        first_ts, last_ts = arrivals.ts_ms[start:end][:1] or [0], max(arrivals.ts_ms[start:end], default=0)
        if (
            start == end
            or event_ids.is_known(user_id)
            or 0 < state.timer_due <= self.timeline.end_ms
            or state.num_actions + num_actions >= rules.sample_every
            or state.num_exposures + num_exposures >= rules.sample_exposures
            or state.num_rows + num_rows >= rules.limit(state)
            or min(arrivals.ts_ms[start:end]) < state.floor_ts
            or state.old
        ):
            return False
        timer_due = state.timer_due or rules.due(first_ts[0], max(state.last_ts, first_ts[0]))
        if 0 < timer_due <= self.timeline.end_ms:
            return False
        if not state.num_pending:
            state.first_ts = first_ts[0]
        state.timer_due = timer_due
        state.last_ts = max(state.last_ts, last_ts)
        state.num_rows += num_rows
        state.num_actions += num_actions
        state.num_exposures += num_exposures
        self.applied.acted += num_actions
        self.applied.exposed += num_exposures
        self._rooms.fragments.append(batch, user_id, state, arrivals.entries(start, end))
        event_ids.add_all(batch, start, end)
        return True

    def _work_singly(
        self, batch: WriteBatch, event_ids: EventIds, user_id: str, state: UserState, start: int, end: int
    ) -> None:
        run = UserRun(
            self._rooms.rules,
            user_id,
            state,
            self._arrivals,
            self.timeline,
            known=event_ids.known(user_id),
            has_pending=self._rooms.outbox.has_pending(user_id),
        )
        run.run(start, end, self._rooms.reading, self._rooms.fragments, batch, self.applied)
        event_ids.update(batch, user_id, run.added, run.dropped)
        self._samples += run.samples

    def _move_timer(self, batch: WriteBatch, user_id: str, former: int, due: int) -> None:
        if former:
            batch.delete(timer_key(former, user_id))
        if due:
            batch.put(timer_key(due, user_id), b"")
            self.first_due = due if self.first_due is None else min(self.first_due, due)
        self.num_new_timers += bool(due) - bool(former)

    def _add_outgoing(self, batch: WriteBatch) -> None:
        self._samples.sort(key=lambda sample: (sample[0], sample[1], sample[2].user_id.encode()))
        rank, before = 0, -1
        for position, _, ref in self._samples:
            rank = rank + 1 if position == before else 0
            before = position
            self.outgoing.append((OutboxKey(position, rank), ref))
        self.applied.samples = len(self._samples)
        for change in self._changes:
            if isinstance(change, Refused):
                self.outgoing.append((OutboxKey(pack_position(self._epoch, change.offset), 0), change))
                self.applied.refused += 1
        self.outgoing.sort(key=lambda item: item[0])
        for key, item in self.outgoing:
            self._rooms.outbox.put(batch, key, item)
