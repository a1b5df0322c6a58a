"""Before a store is opened: does a shipped checkpoint serve better than what is on the disk? If so, it comes there."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from storage.checkpoints import Checkpoints, read_stored
from storage.database import Database
from storage.errors import HeadwaterError, StateError
from storage.header import Header, LogState, check_header
from storage.keys import HEADER, LOG
from storage.shipped_manifest import ShippedCheckpoint
from storage.shipping import CheckpointShipping

AHEAD_RECORDS = 100_000
"""How far ahead of local state a shipped checkpoint must be; fewer records are replayed in some three seconds."""

logger = logging.getLogger(__name__)

_log_decoder = msgspec.msgpack.Decoder(LogState)


class LocalState(NamedTuple):
    """What a disk holds of a partition."""

    is_open: bool
    """Whether there is a database, and not checkpoints at most."""
    is_any: bool
    """Whether there is anything, of whatever log."""
    applied: int
    """Offset of the newest record of the present log that is in it; -1 if none."""


class ShippedRestore:
    """Brings the shipped checkpoints of one partition to one state folder."""

    def __init__(self, shipping: CheckpointShipping, folder: Path, *, partition: int, topic_id: str) -> None:
        self._shipping = shipping
        self._place = folder / f"p{partition}"
        self._folder = folder / "checkpoints"
        self._partition = partition
        self._topic_id = topic_id

    def run(self, *, header: Header, earliest: int) -> Path | None:
        """Bring the newest shipped checkpoint here if it serves better; returns its place among the local ones.

        It does where there is no database and it is ahead of every local checkpoint; where it is ahead of the
        database by more than `AHEAD_RECORDS`, or at all if the log, which begins at offset `earliest`, no longer
        has the records after the database's; and one of a former log where the disk holds nothing at all.

        1. See how far the local state is.
        2. Fetch the newest shipped checkpoint that serves better; one that fails is passed over for the next.
        3. Compare its settings with `header`.
        4. Rename the local database to `pPARTITION.PID.old`.
        5. Delete that.

        Opening the store then restores the newest local checkpoint, which is this one. Raises `StateError` where it
        was made with other settings, `StateInUseError` where another process holds the database, and
        `SnapshotError` where the object store does not answer and the disk holds nothing of this log.
        """
        for leftover in self._place.parent.glob(f"{self._place.name}.*.old"):
            shutil.rmtree(leftover)
        # Step 1.
        local = self._local()
        # Step 2.
        fetched = self._fetch(local, earliest)
        if fetched is None:
            return None
        # Step 3.
        place, shipped = fetched
        self._check(place, shipped, header)
        if local.is_open:
            # Step 4.
            old = self._place.with_name(f"{self._place.name}.{os.getpid()}.old")
            self._place.rename(old)
            # Step 5.
            shutil.rmtree(old)
        return place

    def _local(self) -> LocalState:
        if (self._place / "CURRENT").exists():
            db = Database(self._place)
            try:
                stored = db.get(LOG)
            finally:
                db.close()
            log = LogState(topic_id="") if stored is None else _log_decoder.decode(stored)
            return LocalState(True, True, log.applied if log.topic_id == self._topic_id else -1)
        checkpoints = Checkpoints(self._folder, partition=self._partition, keep=1)
        return LocalState(False, bool(checkpoints.newest_first(self._topic_id)), checkpoints.applied(self._topic_id))

    def _fetch(self, local: LocalState, earliest: int) -> tuple[Path, ShippedCheckpoint] | None:
        try:
            found = self._shipping.newest_first(self._partition, self._topic_id)
        except HeadwaterError as error:
            if local.applied < 0:
                raise
            where = {"partition": self._partition, "offset": local.applied}
            logger.warning("partition %d goes on with local state: %s", self._partition, error, extra=where)
            return None
        for shipped in self._better(found, local, earliest):
            where = {"partition": self._partition, "offset": shipped.applied}
            try:
                place = self._shipping.fetch(shipped, folder=self._folder, partition=self._partition)
            except (OSError, HeadwaterError) as error:
                logger.warning("shipped checkpoint %s is passed over: %s", shipped.path, error, extra=where)
            else:
                logger.info("shipped checkpoint %s is brought to %s", shipped.path, place, extra=where)
                return place, shipped
        return None

    def _better(self, found: list[ShippedCheckpoint], local: LocalState, earliest: int) -> Iterator[ShippedCheckpoint]:
        joins_log = local.applied + 1 >= earliest
        least = local.applied + (AHEAD_RECORDS if local.is_open and joins_log else 0)
        for shipped in found:
            is_current = shipped.topic_id == self._topic_id
            if (is_current and shipped.applied > least) or not (is_current or local.is_any):
                yield shipped

    def _check(self, place: Path, shipped: ShippedCheckpoint, header: Header) -> None:
        try:
            check_header(read_stored(place, HEADER), header, f"{self._shipping.url}/{shipped.path}")
        except StateError:
            shutil.rmtree(place)
            raise
