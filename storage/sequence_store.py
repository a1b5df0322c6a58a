"""The sequences of one source partition's users, kept in one RocksDB that advances with the log."""

import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from storage.changes import Change, Refused
from storage.checkpoints import Checkpoints
from storage.chunk import Applied, Chunk
from storage.database import Database, new_batch
from storage.entries import Entry, SequenceEvent
from storage.errors import LogHoleError, StateError
from storage.fragments import Fragments
from storage.header import LogState, check_header, make_header
from storage.keys import HEADER, LOG, MAX_POSITION, USER, OutboxKey, user_key, user_of
from storage.outbox import Outbox, Outgoing
from storage.sequence import fold_entries
from storage.store_settings import StoreSettings
from storage.user_state import UserState, decode_user, encode_user

logger = logging.getLogger(__name__)

_encoder = msgspec.msgpack.Encoder()
_log_decoder = msgspec.msgpack.Decoder(LogState)


class SequenceStore:
    """Sequences, outbox and position in the log of one source partition; for one thread.

    What reads return is a pure function of the log up to `applied`, however it was cut into chunks and whatever
    was delivered again: each chunk is one write batch that holds the last applied offset, too.
    """

    def __init__(self, settings: StoreSettings, db: Database, checkpoints: Checkpoints, log: LogState) -> None:
        self.settings = settings
        self.partition = checkpoints.partition
        self._db = db
        self._checkpoints = checkpoints
        self._log = log
        self._fragments = Fragments(db, settings.cap)
        self._outbox = Outbox(db)

    @classmethod
    def open(
        cls, settings: StoreSettings, *, topic: str, partition: int, num_partitions: int, topic_id: str
    ) -> "SequenceStore":
        """Open a partition's store, restored from its newest good checkpoint where there is no local state.

        A `topic_id` other than the stored one means that the topic was made anew: a new epoch begins at offset 0,
        sequences stay. Raises `StateError` where the state was made with other settings, for another topic or
        partition count or by another format, where it is damaged, and where another process holds it.
        """
        if not re.fullmatch(r"[\w-]{1,64}", topic_id):
            raise ValueError(f"topic_id must be 1 to 64 letters, digits, - or _, got {topic_id!r}")
        place = settings.folder / f"p{partition}"
        checkpoints = Checkpoints(settings.folder / "checkpoints", partition=partition, keep=settings.num_checkpoints)
        if not _has_state(place):
            restored = checkpoints.restore(place, topic_id=topic_id)
            if restored:
                logger.info("partition %d of %s restored from %s", partition, topic, restored)
        db = Database(place)
        try:
            header = make_header(settings, topic=topic, partition=partition, num_partitions=num_partitions)
            stored = db.get(HEADER)
            if stored is not None:
                check_header(stored, header, str(place))
            log = _advance_epoch(db, topic, topic_id)
            batch = new_batch()
            batch.put(HEADER, _encoder.encode(header))
            batch.put(LOG, _encoder.encode(log))
            db.write(batch)
            return cls(settings, db, checkpoints, log)
        except BaseException:
            db.close()
            raise

    @property
    def epoch(self) -> int:
        """How often the topic was made anew."""
        return self._log.epoch

    @property
    def applied(self) -> int:
        """Offset of the last applied record of this epoch; -1 if none."""
        return self._log.applied

    @property
    def num_users(self) -> int:
        """Users of whom anything is kept."""
        return self._log.num_users

    @property
    def outbox_size(self) -> int:
        """Items in the outbox."""
        return len(self._outbox)

    def apply(self, start: int, last: int, changes: Sequence[Change]) -> Applied:
        """Apply the records that were read from offset `start` to offset `last`, both included.

        `changes` are those of them that change anything, in order of offset; what was applied before is skipped.
        Raises `LogHoleError`, with nothing applied, if records before `start` are missing.
        """
        if start > self.applied + 1:
            raise LogHoleError(
                f"offsets {self.applied + 1} to {start - 1} of partition {self.partition} are missing: "
                f"the next chunk must start at {self.applied + 1} or before, got {start}"
            )
        _check_offsets(start, last, changes)
        fresh = [change for change in changes if change.offset > self.applied]
        chunk = Chunk(self.settings, self.epoch, self._states(fresh))
        chunk.applied.skipped = len(changes) - len(fresh)
        if last > self.applied:
            self._write(chunk, fresh, last)
        return chunk.applied

    def read(self, user_id: str, *, until: int | None = None, last: int | None = None) -> list[SequenceEvent]:
        """A user's events by (ts_ms, group, index), or the `last` of them, as of position `until` (included).

        Raises `StateError` for an `until` before what is kept; those of pending samples never are.
        """
        if last is not None and last < 0:
            raise ValueError(f"last must be >= 0, got {last}")
        entries = self.entries(user_id, until=until)
        return fold_entries(entries, self.settings.cap).events(last)

    def entries(self, user_id: str, *, since: int = -1, until: int | None = None) -> list[Entry]:
        """A user's entries of positions in (since, until], as the log brought them.

        Complete for the ranges of pending samples and for what is in no sample yet; of older ones, those may be
        missing that make no difference to `read`. Raises `StateError` as `read` does.
        """
        if until is not None:
            self._check_until(user_id, until)
        found = self._fragments.read(user_id, until=MAX_POSITION if until is None else until)
        return found if since < 0 else [entry for entry in found if entry.position > since]

    def features(self, user_id: str) -> dict[str, str | int | float | bool]:
        """A user's features; empty for a user who is not known."""
        value = self._db.get(user_key(user_id))
        return {} if value is None else decode_user(value).features

    def users(self) -> Iterator[str]:
        """Ids of all users of whom anything is kept."""
        for key, _ in self._db.scan(USER, USER + b"\xff"):
            yield user_of(key)

    def outbox(self, limit: int, after: OutboxKey | None = None) -> list[tuple[OutboxKey, Outgoing]]:
        """At most `limit` items that are due to leave, in the order of the log, from behind `after`."""
        return self._outbox.items(limit, after)

    def acknowledge(self, keys: Iterable[OutboxKey]) -> None:
        """Delete items of the outbox that have arrived; those no longer there are passed over."""
        self._outbox.acknowledge(keys)

    def checkpoint(self) -> Path:
        """Make a checkpoint of the state as it is; returns its folder."""
        return self._checkpoints.create(self._db, topic_id=self._log.topic_id, applied=self.applied)

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._db.close()

    def _states(self, changes: list[Change]) -> dict[str, UserState | None]:
        user_ids = list({change.user_id: None for change in changes if not isinstance(change, Refused)})
        values = self._db.get_many([user_key(user_id) for user_id in user_ids])
        return {
            user_id: None if value is None else decode_user(value)
            for user_id, value in zip(user_ids, values, strict=True)
        }

    def _write(self, chunk: Chunk, changes: list[Change], last: int) -> None:
        floors = {user_id: self._floor(user_id, state) for user_id, state in chunk.states.items()}
        for change in changes:
            chunk.add(change)
        batch = new_batch()
        for user_id, state in chunk.states.items():
            entries = chunk.entries.get(user_id)
            if entries:
                self._fragments.append(batch, user_id, state, entries, floors[user_id])
            batch.put(user_key(user_id), encode_user(state))
        for key, item in chunk.outgoing:
            self._outbox.put(batch, key, item)
        num_users = self.num_users + chunk.num_new_users
        log = LogState(topic_id=self._log.topic_id, epoch=self.epoch, applied=last, num_users=num_users)
        batch.put(LOG, _encoder.encode(log))
        self._db.write(batch)
        self._log = log
        for key, item in chunk.outgoing:
            self._outbox.added(key, item)

    def _floor(self, user_id: str, state: UserState) -> int:
        # Where the oldest range begins that a sample, pending or still to come, will read.
        pending = self._outbox.oldest_since(user_id)
        return state.since if pending is None else pending

    def _check_until(self, user_id: str, until: int) -> None:
        value = self._db.get(user_key(user_id))
        exact_from = -1 if value is None else decode_user(value).exact_from
        if until < exact_from:
            raise StateError(
                f"the sequence of {user_id!r} as of position {until} is no longer kept: "
                f"read it as of {exact_from} or later"
            )


def _has_state(place: Path) -> bool:
    if (place / "CURRENT").exists():
        return True
    if any(place.glob("*.sst")):
        raise StateError(f"state in {place} is damaged: CURRENT is missing; delete this folder to restore it")
    # A database whose first opening was cut short.
    shutil.rmtree(place, ignore_errors=True)
    return False


def _advance_epoch(db: Database, topic: str, topic_id: str) -> LogState:
    stored = db.get(LOG)
    if stored is None:
        return LogState(topic_id=topic_id)
    log = _log_decoder.decode(stored)
    if log.topic_id == topic_id:
        return log
    logger.warning(
        "topic %s was made anew (id %s, formerly %s): epoch %d begins at offset 0, sequences are kept",
        topic,
        topic_id,
        log.topic_id,
        log.epoch + 1,
    )
    return LogState(topic_id=topic_id, epoch=log.epoch + 1, num_users=log.num_users)


def _check_offsets(start: int, last: int, changes: Sequence[Change]) -> None:
    before = start - 1
    for change in changes:
        if not before < change.offset <= last:
            raise ValueError(f"offsets of changes must rise from {start} to {last}, got {change.offset} after {before}")
        before = change.offset
