"""Checkpoints of one partition's state: made with hard links, named by what they hold, restored newest first.

A checkpoint is a folder `p{partition}.{topic_id}@{applied}.{pid}`. State is a pure function of the log up to
`applied`, so any of them is right, whoever made it; the newest saves the most replay.
"""

import logging
import os
import re
import shutil
from pathlib import Path

from storage.database import Database
from storage.errors import StateError
from storage.keys import HEADER, LOG

logger = logging.getLogger(__name__)

_NAME = re.compile(r"p(?P<partition>\d+)\.(?P<topic_id>[\w-]+)@(?P<applied>-1|\d+)\.\d+")


class Checkpoints:
    """The checkpoints of one partition in one folder."""

    def __init__(self, folder: Path, *, partition: int, keep: int) -> None:
        self.folder = folder
        self.partition = partition
        self.keep = keep

    def create(self, db: Database, *, topic_id: str, applied: int) -> Path:
        """Make a checkpoint of an open database; returns its folder.

        1. Remove what a checkpoint that was cut short left.
        2. Link the database's files into `NAME.tmp`.
        3. Rename it to `NAME`.
        4. Delete all but the `keep` newest.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # Step 1. Whoever holds the database is alone with its partition, so every .tmp of it is a leftover.
        for leftover in self.folder.glob(f"p{self.partition}.*.tmp"):
            shutil.rmtree(leftover)
        place = self.folder / f"p{self.partition}.{topic_id}@{applied}.{os.getpid()}"
        if not place.exists():
            # Step 2.
            unfinished = place.with_name(f"{place.name}.tmp")
            db.checkpoint(unfinished)
            # Step 3.
            unfinished.rename(place)
        # Step 4.
        for old in self.newest_first(topic_id)[self.keep :]:
            shutil.rmtree(old)
        return place

    def restore(self, target: Path, *, topic_id: str) -> Path | None:
        """Make `target` from the newest good checkpoint; returns that, or None where there is none.

        1. Link or copy the checkpoint's files into `TARGET.PID.restore`.
        2. Open that and close it again; a checkpoint that fails is passed over for the next, with a warning.
        3. Rename it to `target`.
        """
        unfinished = target.with_name(f"{target.name}.{os.getpid()}.restore")
        for place in self.newest_first(topic_id):
            try:
                # Step 1.
                _link_files(place, unfinished)
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


def _link_files(source: Path, target: Path) -> None:
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
    db = Database(folder)
    try:
        if db.get(HEADER) is None or db.get(LOG) is None:
            raise StateError("its database has no header")
    finally:
        db.close()
