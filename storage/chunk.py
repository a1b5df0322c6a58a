"""One chunk of the log, worked through: users' rows and states, and what goes to the outbox."""

from collections.abc import Iterable, Sequence
from operator import itemgetter

from rocksdict import WriteBatch

from storage.arrivals import Arrivals
from storage.changes import Change, Refused, Updated
from storage.entries import pack_position
from storage.keys import OutboxKey, timer_key, user_key
from storage.outbox import Outgoing
from storage.pending import DueSample
from storage.rooms import Rooms
from storage.timeline import Timeline
from storage.user_run import Applied, Course, UserRun
from storage.user_state import UserState, decode_user, encode_user


class Chunk:
    """Works changes into a batch; what has come of it stands in its attributes."""

    def __init__(self, rooms: Rooms, epoch: int, changes: Sequence[Change], watermark_ms: int) -> None:
        self._rooms = rooms
        self._epoch = epoch
        kinds = set(map(type, changes))
        self._refused = [change for change in changes if isinstance(change, Refused)] if Refused in kinds else []
        valid = [change for change in changes if not isinstance(change, Refused)]
        self.timeline = Timeline(watermark_ms, epoch, valid)
        self.arrivals = Arrivals(epoch, valid)
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
        rooms, arrivals = self._rooms, self.arrivals
        course = Course(
            rooms=rooms,
            arrivals=arrivals,
            timeline=self.timeline,
            before=self.timeline.before(arrivals.places),
            batch=batch,
            applied=self.applied,
            samples=self._samples,
        )
        idle = [user_id for user_id in due_users if not arrivals.has_user(user_id)]
        user_ids = [*arrivals.user_ids, *idle]
        bounds = [*arrivals.bounds, *((0, 0) for _ in idle)]
        values = rooms.db.get_many([user_key(user_id) for user_id in user_ids])
        for user_id, (start, end), value in zip(user_ids, bounds, values, strict=True):
            state = UserState() if value is None else decode_user(value)
            timer_due = state.timer_due
            known = rooms.reading.event_ids(user_id, state) if user_id in self.suspects else None
            run = UserRun(course, user_id, state, known=known, oldest_pending=rooms.outbox.oldest_pending(user_id))
            run.run(start, end)
            self.num_new_users += value is None
            batch.put(user_key(user_id), encode_user(state))
            if state.timer_due != timer_due:
                self._move_timer(batch, user_id, timer_due, state.timer_due)
        self._add_outgoing(batch)
        rooms.updates.append(batch, self._epoch, self._updates)
        self.applied.updated = len(self._updates)

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
