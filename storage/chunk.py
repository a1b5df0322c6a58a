"""One chunk of the log, worked through: users' rows and states, and what goes to the outbox."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import itemgetter

import numpy as np
import numpy.typing as npt
from rocksdict import WriteBatch

from storage.arrivals import Arrivals
from storage.changes import Refused, SampleRef, Updated
from storage.entries import pack_position
from storage.keys import OutboxKey, fragment_key, fragment_prefix, timer_key, user_key
from storage.outbox import Outgoing
from storage.pending import DueSample
from storage.recent import NO_RECENT, room_for
from storage.records import Int64s
from storage.rooms import Rooms
from storage.runs import (
    ACTED,
    BEGIN,
    BODY,
    COUNTS,
    CURSOR,
    DONE,
    EXPOSED,
    NUM_SAMPLES,
    PROGRESS,
    SAMPLE,
    SET_AT,
    TOO_LATE,
    Kept,
    Made,
    Rows,
    run_users,
)
from storage.states import NUM_FRAGMENTS, TIMER_DUE, States
from storage.user_run import Applied, Course, UserRun

_NUMBERS_OF_ROW = 10
"""Numbers that a row adds to its user's newest events at most: an event, a Kafka timestamp, a value, a request."""


class Chunk:
    """Works records and other changes into a batch; what has come of it stands in its attributes."""

    def __init__(
        self, rooms: Rooms, epoch: int, arrivals: Arrivals, updates: Sequence[Updated], refused: Sequence[Refused]
    ) -> None:
        self._rooms = rooms
        self._epoch = epoch
        self._arrivals = arrivals
        self._updates = updates
        self._refused = refused
        self._runs: dict[int, UserRun] = {}
        self.applied = Applied()
        self.outgoing: list[tuple[OutboxKey, Outgoing]] = []
        """What goes to the outbox."""
        self.num_new_users = 0
        self.num_new_timers = 0
        """Timers set, less those gone."""
        self.first_due: int | None = None
        """When the first of the timers is due that were set."""

    def work(self, batch: WriteBatch, suspects: npt.NDArray[np.bool_], due_users: Iterable[str]) -> None:
        """Work all changes into the batch.

        `suspects` are the records with an id that may be kept already, `due_users` those whose timers fire.
        """
        rooms, groups = self._rooms, self._arrivals.groups
        rooms.prepared.forget_names()
        groups.add_idle(due_users)
        user_ids = groups.user_ids
        keys = [user_key(user_id) for user_id in user_ids]
        states = States(rooms.db.get_many(keys))
        timers = states.rows[:, TIMER_DUE].copy()
        course = Course(
            rooms=rooms,
            arrivals=self._arrivals,
            suspects=suspects,
            states=states,
            made=self._room_to_make(states),
            batch=batch,
            applied=self.applied,
        )
        self._run(course, user_ids)
        self._write_rows(course, user_ids, keys)
        for key, value in zip(keys, states.values(), strict=True):
            batch.put(key, value)
        self._move_timers(batch, user_ids, timers, states.rows[:, TIMER_DUE])
        self._add_outgoing(batch, self._samples(course.made, user_ids))
        rooms.updates.append(batch, self._epoch, self._updates)
        self.applied.updated = len(self._updates)
        self.num_new_users = int(states.is_new.sum())

    def _room_to_make(self, states: States) -> Made:
        num_users, num = len(states), len(self._arrivals)
        progress = np.zeros((num_users, PROGRESS), np.int64)
        progress[:, CURSOR] = progress[:, BEGIN] = self._arrivals.groups.bounds[:-1]
        progress[:, SET_AT] = -1
        # Each sample takes a record, or what a user had pending before.
        samples = np.empty((num + num_users + 1, SAMPLE), np.int64)
        samples[0, BODY] = 0
        bodies = np.empty(self._rooms.prepared.room, np.uint8)
        return Made(states.rows, progress, samples, bodies, np.zeros(COUNTS, np.int64))

    def _run(self, course: Course, user_ids: Sequence[str]) -> None:
        """Take all users to their ends; those who stop on the way go on once what stopped them is done."""
        prepared = self._rooms.prepared
        rows = self._arrivals.rows(prepared.names.numbers(self._arrivals.records), course.suspects)
        new = NO_RECENT if prepared.last else b""
        kept = map(prepared.recent, user_ids)
        recent = [each or (new if is_new else b"") for each, is_new in zip(kept, course.states.is_new, strict=True)]
        users = np.arange(len(user_ids))
        while len(users):
            codes, recent = self._run_some(users, recent, rows, course)
            for place in np.flatnonzero(codes == DONE).tolist():
                if recent[place]:
                    prepared.keep(user_ids[users[place]], recent[place])
            stopped = np.flatnonzero(codes != DONE)
            users, codes = users[stopped], codes[stopped]
            runs = [self._run_of(course, user, user_ids[user]) for user in users.tolist()]
            recent = [
                run.resume(code, recent[place])
                for run, code, place in zip(runs, codes.tolist(), stopped.tolist(), strict=True)
            ]

    def _run_of(self, course: Course, user: int, user_id: str) -> UserRun:
        if user not in self._runs:
            self._runs[user] = UserRun(course, user, user_id)
        return self._runs[user]

    def _run_some(
        self, users: Int64s, recent: list[bytes], rows: Rows, course: Course
    ) -> tuple[npt.NDArray[np.int64], list[bytes]]:
        """Run users until they stop; why each did, and the newest events of each."""
        rooms, names = self._rooms, self._rooms.prepared.names
        saved = np.frombuffer(bytearray().join(recent), np.int64)
        bounds = np.cumsum([0, *map(len, recent)]) // saved.itemsize
        num_items = len(rows.names)
        out = np.empty(len(saved) + _NUMBERS_OF_ROW * num_items, np.int64)
        out_bounds = np.empty(len(users) + 1, np.int64)
        codes = np.empty(len(users), np.int64)
        kept = Kept(names.text, names.ends, saved, bounds, out, out_bounds, room_for(len(saved), num_items))
        rules = rooms.rules.preparing(rooms.prepared.last)
        run_users(users, rules, self._arrivals.timeline, rows, course.made, kept, codes)
        return codes, [out[start:end].tobytes() for start, end in pairwise(out_bounds.tolist())]

    def _write_rows(self, course: Course, user_ids: Sequence[str], keys: Sequence[bytes]) -> None:
        batch, states, progress = course.batch, course.states, course.made.progress
        for run in self._runs.values():
            run.write()
        values, firsts = self._arrivals.values(progress[:, BEGIN].copy(), self._arrivals.groups.bounds[1:])
        fragments = self._rooms.fragments
        has_room = (states.rows[:, NUM_FRAGMENTS] < fragments.most).tolist()
        appended = []
        for user, (key, value, first) in enumerate(zip(keys, values, firsts, strict=True)):
            if not value:
                continue
            if has_room[user] and user not in states.old:
                batch.put(fragment_key(fragment_prefix(key), first), value)
                appended.append(user)
                continue
            user_id, state = user_ids[user], states.get(user)
            if state.old:
                fragments.drop_old(batch, user_id, state, self._run_of(course, user, user_id).oldest_pending())
            fragments.append(batch, user_id, state, first, value)
            states.put(user, state)
        states.rows[appended, NUM_FRAGMENTS] += 1

    def _move_timers(self, batch: WriteBatch, user_ids: Sequence[str], timers: Int64s, dues: Int64s) -> None:
        for user in np.flatnonzero(dues != timers).tolist():
            self._move_timer(batch, user_ids[user], int(timers[user]), int(dues[user]))

    def _move_timer(self, batch: WriteBatch, user_id: str, former: int, due: int) -> None:
        if former:
            batch.delete(timer_key(former, user_id))
        if due:
            batch.put(timer_key(due, user_id), b"")
            self.first_due = due if self.first_due is None else min(self.first_due, due)
        self.num_new_timers += bool(due) - bool(former)

    def _samples(self, made: Made, user_ids: Sequence[str]) -> list[DueSample]:
        counts = made.counts.tolist()
        self.applied.acted, self.applied.exposed = counts[ACTED], counts[EXPOSED]
        self.applied.too_late = counts[TOO_LATE]
        return [
            DueSample(
                position,
                due_ms,
                SampleRef(user_id=user_ids[user], since=since, num_records=num_records),
                made.bodies[body:end].tobytes() if body >= 0 else b"",
            )
            for user, position, due_ms, since, num_records, body, end in made.samples[: counts[NUM_SAMPLES]].tolist()
        ]

    def _add_outgoing(self, batch: WriteBatch, samples: list[DueSample]) -> None:
        samples.sort(key=lambda sample: sample.rank)
        rank, before = 0, -1
        for sample in samples:
            rank = rank + 1 if sample.position == before else 0
            before = sample.position
            self.outgoing.append((OutboxKey(sample.position, rank), sample.ref))
            if sample.body:
                self._rooms.prepared.add(sample.ref.user_id, sample.position, sample.body)
        self.applied.samples = len(samples)
        for change in self._refused:
            self.outgoing.append((OutboxKey(pack_position(self._epoch, change.offset), 0), change))
        self.applied.refused = len(self._refused)
        self.outgoing.sort(key=itemgetter(0))
        for key, item in self.outgoing:
            self._rooms.outbox.put(batch, key, item)
