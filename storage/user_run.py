"""What a user's run through a chunk takes the database for: known event ids, trims, the newest events, writing."""

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from rocksdict import WriteBatch

from storage.arrivals import Arrivals
from storage.entries import NO_ENTRIES, Entries, entries_from
from storage.keys import MAX_POSITION
from storage.reading import View
from storage.recall import recall
from storage.rooms import Rooms
from storage.runs import (
    AT_RECORD,
    BEGIN,
    CHECKED,
    CURSOR,
    HAS_RECENT,
    NUM_SAMPLES,
    POSITION,
    READ,
    STAGE,
    SUSPECT,
    TRIM,
    USER,
    Made,
)
from storage.states import States
from storage.trim import trim_entries


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
    forgotten: int = 0
    """Records that had a user forgotten."""
    unsent: int = 0
    """Samples of users who were forgotten before these were sent."""

    def add(self, other: "Applied") -> None:
        """Add what applying a later part of the chunk did."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the users' runs through one chunk share."""

    rooms: Rooms
    arrivals: Arrivals
    suspects: npt.NDArray[np.bool_]
    """Whether each record has an id that may be kept already."""
    states: States
    made: Made
    batch: WriteBatch
    applied: Applied


class UserRun:
    """One user whose run has stopped; its records are `order[start:end]` of the arrivals."""

    def __init__(self, course: Course, user: int, user_id: str) -> None:
        self._course = course
        self._user = user
        self._user_id = user_id
        self._progress = course.made.progress[user]
        self._base: Entries | None = None
        self._known: set[int] | None = None
        self._noted = int(course.arrivals.groups.bounds[user])
        """From which record on ids are not in `_known`."""

    def resume(self, code: int, recent: bytes) -> bytes:
        """Do what the run stopped for; takes and returns the user's newest events, empty where they are not at hand."""
        if code == SUSPECT:
            self._check()
            return recent
        if code == TRIM:
            self._trim()
            return b""
        assert code == READ
        return self._read()

    def _check(self) -> None:
        """Pass over the next record if its event id is one of a row that the user has; else have it taken."""
        course, progress = self._course, self._progress
        record = course.arrivals.groups.order[progress[CURSOR]]
        if int(course.arrivals.records.events[record]) in self._note(int(progress[CURSOR])):
            course.applied.duplicates += 1
            progress[CURSOR] += 1
            progress[STAGE] = AT_RECORD
        else:
            progress[STAGE] = CHECKED

    def _trim(self) -> None:
        """Trim the rows up to the record that was taken last, and begin a new generation with what is left."""
        course, user_id = self._course, self._user_id
        known = self._note(int(self._progress[CURSOR]) + 1) if self._is_suspect() else set()
        state = course.states.get(self._user)
        oldest_pending = self.oldest_pending()
        sealed = NO_ENTRIES
        if self._base is None:
            sealed = course.rooms.reading.in_blocks(user_id, state)
            self._base = entries_from(course.rooms.fragments.take_tail(course.batch, user_id, state))
        unsealed = self._unsealed()
        trimmed = trim_entries(course.rooms.reading.fold(Entries.join([sealed, unsealed])), course.rooms.rules.cap)
        if oldest_pending is not None:
            course.rooms.fragments.seal(course.batch, user_id, state, unsealed)
        position = course.arrivals.position(int(self._progress[CURSOR]))
        course.rooms.fragments.begin_generation(course.batch, user_id, state, position, oldest_pending)
        course.applied.trimmed += state.num_rows - len(trimmed.entries)
        self._base = trimmed.entries
        known -= trimmed.dropped
        state.num_rows = state.num_survivors = len(trimmed.entries)
        if trimmed.floor_ts is not None:
            state.floor_ts = trimmed.floor_ts
        course.states.put(self._user, state)
        self._progress[HAS_RECENT] = False
        self._progress[BEGIN] = self._progress[CURSOR] + 1

    def _read(self) -> bytes:
        """The user's newest events as of the record that was taken last."""
        course, state = self._course, self._course.states.get(self._user)
        reading, prepared = course.rooms.reading, course.rooms.prepared
        if self._base is not None:
            view = View.whole(self._unsealed())
        else:
            view = reading.view(self._user_id, state, state.generation)
            view.add(self._new().to_bytes())
        found = reading.read_back(view, until=MAX_POSITION, last=prepared.last, since=state.since)
        return recall(found, prepared.names, since=state.since, last_ts=state.last_ts)

    def write(self) -> None:
        """Write the rows of a user who was trimmed."""
        if self._base is not None:
            course, state = self._course, self._course.states.get(self._user)
            course.rooms.fragments.seal(course.batch, self._user_id, state, self._unsealed())
            course.states.put(self._user, state)
            self._progress[BEGIN] = self._end()

    def _end(self) -> int:
        return int(self._course.arrivals.groups.bounds[self._user + 1])

    def _new(self) -> Entries:
        """The rows since the last trim, or since the chunk began."""
        progress = self._progress
        return self._course.arrivals.entries(int(progress[BEGIN]), min(int(progress[CURSOR]) + 1, self._end()))

    def _unsealed(self) -> Entries:
        assert self._base is not None
        return Entries.join([self._base, self._new()])

    def _is_suspect(self) -> bool:
        """Whether an id of the user's records may be known."""
        start, end = self._course.arrivals.groups.bounds[self._user : self._user + 2]
        return bool(self._course.suspects[self._course.arrivals.groups.order[start:end]].any())

    def _note(self, end: int) -> set[int]:
        """Hashes of the event ids of which the user has a row, those of the chunk's records before `end` among them."""
        course = self._course
        if self._known is None:
            self._known = course.rooms.reading.event_ids(self._user_id, course.states.get(self._user))
        records = course.arrivals.groups.order[self._noted : end]
        self._known.update(course.arrivals.records.events[records[course.arrivals.taken[records]]].tolist())
        self._noted = end
        return self._known

    def oldest_pending(self) -> int | None:
        """Position of the user's oldest sample that is still to be sent."""
        stored = self._course.rooms.outbox.oldest_pending(self._user_id)
        if stored is not None:
            return stored
        made = self._course.made
        samples = made.samples[: made.counts[NUM_SAMPLES]]
        mine = np.flatnonzero(samples[:, USER] == self._user)
        return int(samples[mine[0], POSITION]) if len(mine) else None
