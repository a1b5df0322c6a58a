"""The sequences of one source partition's users, kept in one RocksDB that advances with the log."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from storage.arrivals import Arrivals
from storage.changes import Acted, Change, Exposed, Feature, Forgot, Refused, Ticked, Updated
from storage.checkpoints import Checkpoints
from storage.chunk import Chunk
from storage.columns import NO_RECORDS, columns_of, merge
from storage.database import Database, has_database, new_batch
from storage.entries import unpack_position
from storage.errors import LogHoleError, StateError
from storage.event_ids import EventIds
from storage.folded import FoldedSequence, Update
from storage.forgetting import Forgetting, last_forgotten, parts_of
from storage.fragments import Fragments
from storage.header import LogState, check_header, log_state, make_header
from storage.keys import (
    HEADER,
    LOG,
    USER,
    OutboxKey,
    former_log_key,
    user_key,
    user_of,
)
from storage.outbox import Outbox, Outgoing
from storage.prepared import Prepared
from storage.reading import Reading, UserReader
from storage.records import Records, check_offsets
from storage.rooms import Rooms
from storage.runs import Rules
from storage.sample_body import body_of, encode_body
from storage.store_settings import StoreSettings
from storage.timers import Timers
from storage.updates import Updates
from storage.user_run import Applied
from storage.user_state import UserState, decode_user

SIZES = ("total-sst-files-size", "cur-size-all-mem-tables", "estimate-pending-compaction-bytes", "block-cache-usage")
"""Properties of RocksDB that `SequenceStore.sizes` gives."""

logger = logging.getLogger(__name__)

_encoder = msgspec.msgpack.Encoder()


class SequenceStore:
    """Sequences, outbox and position in the log of one source partition; for one thread.

    What reads return is a pure function of the log up to `applied`, however it was cut into chunks and whatever
    was delivered again: each chunk is one write batch that holds the last applied offset, too, parted where a user is
    forgotten.
    """

    def __init__(self, settings: StoreSettings, db: Database, checkpoints: Checkpoints, log: LogState) -> None:
        self.settings = settings
        self.partition = checkpoints.partition
        self._db = db
        self._checkpoints = checkpoints
        self._log = log
        self._outbox = Outbox(db)
        window_ms = round(settings.attribution_seconds * 1000)
        fragments = Fragments(db, window_ms)
        self._reading = Reading(fragments, window_ms=window_ms, exposure_rate=settings.exposure_rate)
        self._prepared = Prepared()
        self._rooms = Rooms(
            db=db,
            rules=Rules.of(settings),
            fragments=fragments,
            reading=self._reading,
            outbox=self._outbox,
            prepared=self._prepared,
            updates=Updates(db),
        )
        self._event_ids = EventIds(fragments.rows())
        self._timers = Timers(db)
        self._forgotten = last_forgotten(db)
        self._purged = 0
        """Up to which position such users are known to be in none of the files."""

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
        if not has_database(place):
            restored = checkpoints.restore(place, topic_id=topic_id)
            if restored:
                logger.info("partition %d of %s restored from %s", partition, topic, restored)
        db = Database(place)
        try:
            with db.decoding():
                header = make_header(settings, topic=topic, partition=partition, num_partitions=num_partitions)
                stored = db.get(HEADER)
                if stored is not None:
                    check_header(stored, header, str(place))
                log = log_state(db, topic=topic, topic_id=topic_id)
                batch = new_batch()
                batch.put(HEADER, _encoder.encode(header))
                batch.put(LOG, _encoder.encode(log))
                db.write(batch)
                db.flush()
                return cls(settings, db, checkpoints, log)
        except BaseException:
            db.close()
            raise

    @property
    def epoch(self) -> int:
        """How often the topic was made anew."""
        return self._log.epoch

    @property
    def topic_id(self) -> str:
        """Id of the topic since it was last made anew."""
        return self._log.topic_id

    def topic_id_at(self, position: int) -> str:
        """Id that the topic had in a position's epoch; raises `StateError` where the state does not tell."""
        epoch, _ = unpack_position(position)
        if epoch == self.epoch:
            return self.topic_id
        with self._db.decoding():
            former = self._db.get(former_log_key(epoch))
            if former is None:
                raise ValueError(f"no topic id of epoch {epoch}")
            return former.decode()

    @property
    def applied(self) -> int:
        """Offset of the last applied record of this epoch; -1 if none."""
        return self._log.applied

    @property
    def num_users(self) -> int:
        """Users who have a sequence."""
        return self._log.num_users

    @property
    def num_timers(self) -> int:
        """Timers that are set."""
        return self._log.num_timers

    @property
    def watermark_ms(self) -> int:
        """Newest event time of a record, milliseconds since 1970; 0 without one."""
        return self._log.watermark_ms

    @property
    def outbox_size(self) -> int:
        """Items in the outbox."""
        return len(self._outbox)

    def sizes(self) -> dict[str, int]:
        """Bytes that the database takes, by RocksDB's name of the property."""
        return {name: self._db.figure(f"rocksdb.{name}") for name in SIZES}

    def apply(self, start: int, last: int, changes: Sequence[Change], records: Records = NO_RECORDS) -> Applied:
        """Apply the records that were read from offset `start` to offset `last`, both included.

        `changes` are those of them that change anything, in order of offset, but for the impressions and actions that
        stand in the columns of `records`; what was applied before is skipped.
        Raises `LogHoleError`, with nothing applied, if records before `start` are missing.
        """
        if start > self.applied + 1:
            raise LogHoleError(
                f"offsets {self.applied + 1} to {start - 1} of partition {self.partition} are missing: "
                f"the next chunk must start at {self.applied + 1} or before, got {start}"
            )
        offsets = np.array([change.offset for change in changes], np.int64)
        check_offsets(start, last, offsets)
        check_offsets(start, last, np.sort(np.concatenate((offsets, records.offsets))))
        fresh = changes[int(np.searchsorted(offsets, self.applied, side="right")) :]
        fresh_records = records.behind(self.applied)
        applied = Applied()
        try:
            with self._db.decoding():
                for part in parts_of(fresh, fresh_records, last) if last > self.applied else ():
                    first = part.changes[0] if part.changes else None
                    applied.add(self._forget(first) if isinstance(first, Forgot) else self._write(*part))
        except BaseException:
            self._prepared.clear()  # it may be ahead of what is written
            raise
        applied.skipped = len(changes) - len(fresh) + len(records) - len(fresh_records)
        return applied

    def read(
        self, user_id: str, *, until: int | None = None, last: int | None = None, since: int | None = None
    ) -> FoldedSequence:
        """A user's events in order of time as of position `until` (included), or the newest `last` of them.

        With `since`, also what lies between those and the oldest event that has a row after that position. Raises
        `StateError` for an `until` before what is kept; those of pending samples never are.
        """
        if last is not None and last < 0:
            raise ValueError(f"last must be >= 0, got {last}")
        with self._db.decoding():
            found = self._reader(user_id).read(until=until, last=last, since=since)
        if until is not None and until < self._forgotten and not len(found):
            raise StateError(
                f"the sequence of {user_id!r} as of position {until} may have been forgotten since: "
                f"read it as of {self._forgotten} or later"
            )
        return found

    def prepare_samples(self, last: int) -> None:
        """Have the bodies of samples that become due from now on made as their records are applied.

        `last` is what `read_samples` will be asked for. Bodies are kept in memory, within bounds; with an
        `exposure_rate` below 1 all are read.
        """
        if last < 1:
            raise ValueError(f"last must be >= 1, got {last}")
        self._prepared.clear()
        self._prepared.last = last if self.settings.exposure_rate == 1 else 0

    def read_bodies(self, user_id: str, due: Sequence[tuple[int, int]], *, last: int) -> list[bytes]:
        """The encoded bodies of samples of one user, each by (position of the record that made it due, since).

        A body holds the newest `last` events as of that position, and all that are new (`storage.sample_body`).
        """
        found: list[bytes] = []
        reader: UserReader | None = None
        with self._db.decoding():
            for until, since in due:
                body = self._prepared.body(user_id, until) if last == self._prepared.last else None
                if body is None:
                    reader = reader or self._reader(user_id)
                    body = encode_body(body_of(reader.read(until=until, last=last, since=since), since))
                found.append(body)
        return found

    def updates(self, user_id: str, *, until: int | None = None) -> list[Update]:
        """What was told of a user's features as of position `until`, in order of time."""
        with self._db.decoding():
            told = self._rooms.updates.of(user_id)
        return [update for update in told if until is None or update.position <= until]

    def features(self, user_id: str) -> dict[str, Feature]:
        """A user's features; empty for a user of whom none was told."""
        return {update.name: update.value for update in self.updates(user_id)}

    def users(self) -> Iterator[str]:
        """Ids of all users who have a sequence."""
        with self._db.decoding():
            for key, _ in self._db.scan(USER, USER + b"\xff"):
                yield user_of(key)

    def outbox(self, limit: int, after: OutboxKey | None = None) -> list[tuple[OutboxKey, Outgoing]]:
        """At most `limit` items that are due to leave, in the order of the log, from behind `after`."""
        with self._db.decoding():
            return self._outbox.items(limit, after)

    def is_due(self, key: OutboxKey) -> bool:
        """Whether an item is still to leave."""
        return key in self._outbox

    def acknowledge(self, keys: Iterable[OutboxKey]) -> None:
        """Delete items of the outbox that have arrived; those no longer there are passed over."""
        for key, user_id in self._outbox.acknowledge(keys):
            self._prepared.forget(user_id, key.position)

    def checkpoint(self) -> Path:
        """Make a checkpoint of the state as it is; returns its folder.

        What users who were forgotten left in the files is in no checkpoint made after.
        """
        forgotten = self._forgotten
        if forgotten > self._purged:
            self._db.compact()
            self._purged = forgotten
        return self._checkpoints.create(self._db, topic_id=self._log.topic_id, applied=self.applied)

    def flush(self) -> None:
        """Have the state as it is outlive the process; a checkpoint does so, too."""
        self._db.flush()

    def close(self) -> None:
        """Flush and close the database; a second call does nothing."""
        self._db.close()

    def _reader(self, user_id: str) -> UserReader:
        value = self._db.get(user_key(user_id))
        return UserReader(self._reading, user_id, UserState() if value is None else decode_user(value))

    def _write(self, changes: Sequence[Change], records: Records, last: int) -> Applied:
        rows = [change for change in changes if isinstance(change, Acted | Exposed)]
        updates = [change for change in changes if isinstance(change, Updated)]
        timed = [change for change in changes if isinstance(change, Updated | Ticked)]
        refused = [change for change in changes if isinstance(change, Refused)]
        arrivals = Arrivals(self.epoch, merge(records, columns_of(rows)), timed, self._log.watermark_ms)
        chunk = Chunk(self._rooms, self.epoch, arrivals, updates, refused)
        end_ms = arrivals.timeline.end_ms
        batch = new_batch()
        chunk.work(batch, self._event_ids.suspects(arrivals), self._timers.due_users(end_ms))
        log = LogState(
            topic_id=self._log.topic_id,
            epoch=self.epoch,
            applied=last,
            num_users=self.num_users + chunk.num_new_users,
            num_timers=self.num_timers + chunk.num_new_timers,
            watermark_ms=end_ms,
        )
        batch.put(LOG, _encoder.encode(log))
        self._db.write(batch)
        self._log = log
        self._event_ids.add(arrivals)
        if self._event_ids.is_full:
            self._event_ids = EventIds(self._rooms.fragments.rows())
        for key, item in chunk.outgoing:
            self._outbox.added(key, item)
        self._timers.moved(end_ms, chunk.first_due)
        return chunk.applied

    def _forget(self, change: Forgot) -> Applied:
        forgetting = Forgetting(self._rooms, self.epoch, change)
        batch = new_batch()
        forgetting.write(batch)
        log = msgspec.structs.replace(
            self._log,
            applied=change.offset,
            num_users=self.num_users - forgetting.num_users,
            num_timers=self.num_timers - forgetting.num_timers,
        )
        batch.put(LOG, _encoder.encode(log))
        self._db.write(batch)
        self._log = log
        self._forgotten = forgetting.position
        forgetting.written()
        return Applied(forgotten=1, unsent=len(forgetting.unsent))
