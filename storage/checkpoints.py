"""Checkpoints of one partition's state: made with hard links, named by what they hold, restored newest first.

A checkpoint is a folder `p{partition}.{topic_id}@{applied}.{pid}`. State is a pure function of the log up to
`applied`, so any of them is right, whoever made it; the newest saves the most replay.
"""

import logging
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec
from rocksdict import AccessType, Options, Rdict

from storage.database import Database
from storage.errors import StateError
from storage.header import LogState
from storage.keys import HEADER, LOG

logger = logging.getLogger(__name__)

_NAME = re.compile(r"p(?P<partition>\d+)\.(?P<topic_id>[\w-]+)@(?P<applied>-1|\d+)\.\d+")
_log_decoder = msgspec.msgpack.Decoder(LogState)


class CheckpointName(NamedTuple):
    """What the name of a checkpoint's folder says."""

    partition: int
    topic_id: str
    applied: int

    @classmethod
    def of(cls, place: Path) -> "CheckpointName":
        """The name of an existing checkpoint; raises `ValueError` for another folder."""
        match = _NAME.fullmatch(place.name)
        if match is None:
            raise ValueError(f"place must be a checkpoint, got {place}")
        return cls(int(match["partition"]), match["topic_id"], int(match["applied"]))

    def place(self, folder: Path) -> Path:
        """Where this process puts a checkpoint of this name."""
        return folder / f"p{self.partition}.{self.topic_id}@{self.applied}.{os.getpid()}"

    def put(self, unfinished: Path, folder: Path, *, made: float | None = None) -> Path:
        """Give a finished checkpoint its name, made at this time; one that is there already stays."""
        place = self.place(folder)
        if place.exists():
            shutil.rmtree(unfinished)
        else:
            unfinished.rename(place)
        os.utime(place, None if made is None else (made, made))
        return place


class Checkpoints:
    """The checkpoints of one partition in one folder."""

    def __init__(self, folder: Path, *, partition: int, keep: int) -> None:
        self.folder = folder
        self.partition = partition
        self.keep = keep

    def create(self, db: Database, *, topic_id: str, applied: int) -> Path:
        """Make a checkpoint of an open database that holds at least the records up to `applied`; returns its folder.

        May run in a thread while another one writes: the checkpoint is named by what it holds.

        1. Remove what a checkpoint that was cut short left.
        2. Link the database's files into `pPARTITION.PID.tmp`.
        3. Read how far those go and rename the folder so; one of that name stays, as if made now.
        4. Delete all but the `keep` newest.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Step 1. Whoever holds the database is alone with its partition, so every .tmp of it is a leftover.
        for leftover in self.folder.glob(f"p{self.partition}.*.tmp"):
            shutil.rmtree(leftover)
        # Step 2.
        unfinished = self.folder / f"p{self.partition}.{os.getpid()}.tmp"
        # rocksdict lets other threads run while it flushes, and not while it links, which would flush all there is.
        db.flush()
        db.checkpoint(unfinished)
        # Step 3.
        log = read_log_state(unfinished)
        assert log.topic_id == topic_id
        assert log.applied >= applied
        place = CheckpointName(self.partition, topic_id, log.applied).put(unfinished, self.folder)
        # Step 4.
        for old in self.newest_first(topic_id)[self.keep :]:
            shutil.rmtree(old)
        return place

    def restore(self, target: Path, *, topic_id: str) -> Path | None:
        """Make `target` from the newest good checkpoint; returns that, or None where there is none.

        1. Link or copy the checkpoint's files into `TARGET.PID.restore`.
        2. Open that, read all of it and close it; a checkpoint that fails is passed over, with a warning, for the next.
        3. Rename it to `target`.
        """
        unfinished = target.with_name(f"{target.name}.{os.getpid()}.restore")
        for place in self.newest_first(topic_id):
            try:
                # Step 1.
                link_files(place, unfinished)
                # Step 2.
                _check(unfinished)
            except (OSError, StateError) as error:
                logger.warning("checkpoint %s is passed over: %s", place, error)
                shutil.rmtree(unfinished, ignore_errors=True)
                continue
            # Step 3.
            unfinished.rename(target)
            return place
        return None

    def newest_first(self, topic_id: str) -> list[Path]:
        """Checkpoints of the log with this topic id by offset, then those of former logs by age."""
        ranked: list[tuple[bool, int, int, Path]] = []
        for place in self.folder.glob(f"p{self.partition}.*"):
            match = _NAME.fullmatch(place.name)
            if match:
                current = match["topic_id"] == topic_id
                applied, made = int(match["applied"]), place.stat().st_mtime_ns
                ranked.append((current, applied if current else made, made, place))
        return [place for *_, place in sorted(ranked, reverse=True)]

    def applied(self, topic_id: str) -> int:
        """Offset that the newest checkpoint of the log with this topic id holds; -1 where there is none."""
        names = [CheckpointName.of(place) for place in self.newest_first(topic_id)]
        return max((name.applied for name in names if name.topic_id == topic_id), default=-1)

    def made(self, topic_id: str) -> float | None:
        """When the newest checkpoint of the log with this topic id was made, Unix seconds; None where there is none."""
        times = [
            place.stat().st_mtime
            for place in self.newest_first(topic_id)
            if CheckpointName.of(place).topic_id == topic_id
        ]
        return times[0] if times else None


def read_stored(folder: Path, key: bytes) -> bytes:
    """A value of a database that nobody writes, without touching it; raises `StateError` if it is damaged."""
    try:
        db = Rdict(str(folder), Options(raw_mode=True), access_type=AccessType.read_only())
        try:
            value: bytes | None = db.get(key)
        finally:
            db.close()
    except Exception as error:  # rocksdict raises bare Exception
        raise StateError(f"state in {folder} cannot be read: {error}") from error
    if value is None:
        raise StateError(f"state in {folder} has no header")
    return value


def read_log_state(folder: Path) -> LogState:
    """How far a database that nobody writes goes; raises as `read_stored` does."""
    try:
        return _log_decoder.decode(read_stored(folder, LOG))
    except msgspec.DecodeError as error:
        raise StateError(f"state in {folder} cannot be decoded: {error}; delete this folder") from error


def link_files(source: Path, target: Path) -> None:
    """Make `target`, anew, of hard links to files that never change and copies of the others."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in source.iterdir():
        # RocksDB never changes an .sst file; the others it may append to.
        if path.suffix == ".sst":
            _link_file(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


def _link_file(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _check(folder: Path) -> None:
    if not (folder / "CURRENT").exists():
        raise StateError("it holds no database")
    db = Database(folder, cached=False)
    try:
        if db.get(HEADER) is None or db.get(LOG) is None:
            raise StateError("its database has no header")
        # All of it: a worker that took damaged rows for good could neither go on nor take an older checkpoint.
        db.check()
    finally:
        db.close()
