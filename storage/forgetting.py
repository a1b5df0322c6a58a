"""Forgetting a user: a chunk parted where that happens, and what is deleted then."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from rocksdict import WriteBatch

from storage.changes import Change, ForgetRef, Forgot
from storage.database import Database
from storage.entries import pack_position
from storage.keys import FORGOTTEN, OutboxKey, outbox_key, row_ranges, timer_key, updates_key, user_key
from storage.records import Records
from storage.rooms import Rooms
from storage.user_state import decode_user

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(int)


class Part(NamedTuple):
    """Records of a chunk that stand together: one that has a user forgotten, alone, or those around such."""

    changes: Sequence[Change]
    records: Records
    last: int
    """Offset up to which the log is applied behind it."""


def parts_of(changes: Sequence[Change], records: Records, last: int) -> Iterator[Part]:
    """The parts of a chunk up to offset `last`, in the order of the log."""
    done = 0
    for place, change in enumerate(changes):
        if isinstance(change, Forgot):
            before = Part(changes[done:place], records.before(change.offset), change.offset - 1)
            if before.changes or len(before.records):
                yield before
            records = records.behind(change.offset)
            yield Part([change], records.before(change.offset), change.offset)
            done = place + 1
    if not done:
        yield Part(changes, records, last)
    elif last > changes[done - 1].offset:
        yield Part(changes[done:], records, last)


def last_forgotten(db: Database) -> int:
    """Position of the newest record that had a user of this database forgotten; 0 without one."""
    stored = db.get(FORGOTTEN)
    return 0 if stored is None else _decoder.decode(stored)


class Forgetting:
    """All that a store keeps of one user, deleted with a batch; `written` must follow once that is written.

    What leaves the store for the learner's sake names the user in the outbox until it has arrived. Refused records stay
    there, too: of them only the key may tell a user.
    """

    def __init__(self, rooms: Rooms, epoch: int, change: Forgot) -> None:
        self.position = pack_position(epoch, change.offset)
        self._rooms = rooms
        self._user_id = change.user_id
        self._state = rooms.db.get(user_key(change.user_id))
        self._timer_due = 0 if self._state is None else decode_user(self._state).timer_due
        self.unsent = rooms.outbox.samples_of(change.user_id)
        """The user's samples that were not sent: they never will be."""

    @property
    def num_users(self) -> int:
        """Users who have a state no more."""
        return int(self._state is not None)

    @property
    def num_timers(self) -> int:
        """Timers that are gone."""
        return int(self._timer_due > 0)

    def write(self, batch: WriteBatch) -> None:
        """Delete what there is, and tell those who learn."""
        key = user_key(self._user_id)
        for start, end in row_ranges(key):
            for row_key, _ in self._rooms.db.scan(start, end):
                batch.delete(row_key)
        for sample in self.unsent:
            batch.delete(outbox_key(sample))
        if self._timer_due:
            batch.delete(timer_key(self._timer_due, self._user_id))
        batch.delete(updates_key(self._user_id))
        batch.delete(key)
        batch.put(FORGOTTEN, _encoder.encode(self.position))
        self._rooms.outbox.put(batch, *self._word())

    def written(self) -> None:
        """Let the memory follow."""
        prepared = self._rooms.prepared
        prepared.recent(self._user_id)
        for key in self.unsent:
            prepared.forget(self._user_id, key.position)
        self._rooms.outbox.removed(self.unsent)
        self._rooms.outbox.added(*self._word())

    def _word(self) -> tuple[OutboxKey, ForgetRef]:
        return OutboxKey(self.position, 0), ForgetRef(user_id=self._user_id)
