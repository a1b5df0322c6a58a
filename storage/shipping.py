"""Checkpoints in an object store, from where a worker with an empty disk takes them.

Content of files is uploaded once, under its checksum, and shared by the manifests of one shipper. Whatever comes from
the store is checked against its manifest, and a manifest against its limits, before any of it is used.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from storage.checkpoints import CheckpointName, link_files, read_log_state, read_stored
from storage.errors import SnapshotError
from storage.keys import HEADER
from storage.objects import Listed, Objects
from storage.shipped_manifest import (
    MAX_MANIFEST_BYTES,
    ShippedCheckpoint,
    ShippedFile,
    ShippedManifest,
    decode_shipped,
    encode_shipped,
    shipped_from,
    shipper_of,
)

ORPHAN_AGE = timedelta(hours=1)
"""From when on, compared with the newest of its partition, another shipper's checkpoint may be retired."""
READ_BYTES = 1024 * 1024


class CheckpointShipping:
    """The shipped checkpoints of one topic behind one URL; its methods may run in threads, one for each partition."""

    def __init__(self, url: str, *, topic: str, keep: int) -> None:
        if not re.fullmatch(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}", topic):
            raise ValueError(f"topic must be the name of a Kafka topic, got {topic!r}")
        self.url = url
        self.topic = topic
        self.keep = keep
        self._objects = Objects(url)
        self._checksums: dict[int, dict[tuple[int, int, int], str]] = {}

    def ship(self, place: Path) -> int:
        """Upload a local checkpoint; returns how many bytes of files that took.

        1. Link its files into `NAME.shipping`, where the retiring of local checkpoints does not take them away.
        2. Upload each file whose content is not there yet.
        3. Write the manifest.
        4. Delete manifests that are too many, then files that no manifest names any more.
        5. Remove the links.

        Raises `SnapshotError` where the store fails, `OSError` where the checkpoint is gone.
        """
        name = CheckpointName.of(place)
        base = f"{self._folder(name.partition)}/{_shipper(place.parent, name.partition)}"
        links = place.with_name(f"{place.name}.shipping")
        # Step 1. Only who holds the partition ships it, so what is there is a leftover.
        for leftover in place.parent.glob(f"p{name.partition}.*.shipping"):
            shutil.rmtree(leftover)
        link_files(place, links)
        try:
            # Step 2.
            files = self._describe(links, name.partition)
            num_bytes = self._upload(links, files, base)
            # Step 3.
            path = f"{base}/{name.topic_id}@{name.applied}.json"
            self._objects.put(path, encode_shipped(_manifest(name, files), path))
            # Step 4.
            self._retire(base, name)
        finally:
            # Step 5.
            shutil.rmtree(links)
        return num_bytes

    def newest_first(self, partition: int, topic_id: str) -> list[ShippedCheckpoint]:
        """Shipped checkpoints of the log with this topic id by offset, then those of former logs by age."""
        listed = self._objects.list(self._folder(partition))
        return _newest_first((found for found in map(shipped_from, listed) if found), topic_id)

    def fetch(self, shipped: ShippedCheckpoint, *, folder: Path, partition: int) -> Path:
        """Make a local checkpoint in `folder` of a shipped one; returns its place.

        1. Remove what a fetch that was cut short left.
        2. Read the manifest and download its files into `pPARTITION.PID.fetched`, each held against its checksum.
        3. Open that: its log state must be what the manifest says, and its header one.
        4. Rename it to its name among the local checkpoints.

        Raises `HeadwaterError` where it is gone, damaged or not what it says, or the disk is too small.
        """
        # Step 1.
        for leftover in folder.glob(f"p{partition}.*.fetched"):
            shutil.rmtree(leftover)
        # Step 2.
        value = self._objects.get(shipped.path, MAX_MANIFEST_BYTES)
        if value is None:
            raise SnapshotError(f"{shipped.path} is not in {self.url}: it is retired by now")
        manifest = decode_shipped(value, shipped.path)
        if (manifest.partition, manifest.topic_id, manifest.applied) != (partition, shipped.topic_id, shipped.applied):
            raise SnapshotError(f"{shipped.path} is the manifest of another checkpoint")
        unfinished = folder / f"p{partition}.{os.getpid()}.fetched"
        unfinished.mkdir(parents=True)
        try:
            self._download(manifest, shipped, unfinished)
            # Step 3.
            _check_header_is_one(unfinished)
            log = read_log_state(unfinished)
            if (log.topic_id, log.applied) != (manifest.topic_id, manifest.applied):
                raise SnapshotError(
                    f"{shipped.path} must hold {manifest.topic_id}@{manifest.applied}, got {log.topic_id}@{log.applied}"
                )
            # Step 4.
            name = CheckpointName(partition, manifest.topic_id, manifest.applied)
            return name.put(unfinished, folder, made=shipped.modified.timestamp())
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _folder(self, partition: int) -> str:
        return f"{self.topic}/p{partition}"

    def _describe(self, links: Path, partition: int) -> list[ShippedFile]:
        known = self._checksums.get(partition, {})
        fresh: dict[tuple[int, int, int], str] = {}
        files = []
        for path in sorted(links.iterdir()):
            stat = path.stat()
            # RocksDB never changes an .sst file, and its links have one inode.
            identity = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            is_table = path.suffix == ".sst"
            checksum = known.get(identity) if is_table else None
            if checksum is None:
                checksum = _checksum(path)
            if is_table:
                fresh[identity] = checksum
            files.append(ShippedFile(name=path.name, bytes=stat.st_size, checksum=checksum))
        self._checksums[partition] = fresh
        return files

    def _upload(self, links: Path, files: list[ShippedFile], base: str) -> int:
        present = self._files(base)
        num_bytes = 0
        for file in files:
            path = f"{base}/files/{file.content}"
            if path not in present:
                self._objects.upload(path, links / file.name)
                present.add(path)
                num_bytes += file.bytes
        # Another worker that took this shipper for a dead one may have deleted what it uploaded an hour ago.
        present = self._files(base)
        lost = [file.name for file in files if f"{base}/files/{file.content}" not in present]
        if lost:
            raise SnapshotError(
                f"{base} lost {', '.join(lost)} while it was written: the next checkpoint is shipped anew"
            )
        return num_bytes

    def _files(self, base: str) -> set[str]:
        return {listed.path for listed in self._objects.list(f"{base}/files")}

    def _download(self, manifest: ShippedManifest, shipped: ShippedCheckpoint, target: Path) -> None:
        total = sum(file.bytes for file in manifest.files)
        free = shutil.disk_usage(target).free
        if total > free:
            raise SnapshotError(
                f"{shipped.path} has {total} bytes, {free} are free in {target.parent}: make room there"
            )
        for file in manifest.files:
            path = f"{self._folder(manifest.partition)}/{shipped.shipper}/files/{file.content}"
            self._objects.download(path, target / file.name, file.bytes)
            checksum = _checksum(target / file.name)
            if checksum != file.checksum:
                raise SnapshotError(f"{path} must have xxh3-128 {file.checksum}, got {checksum}")

    def _retire(self, base: str, name: CheckpointName) -> None:
        listed = self._objects.list(self._folder(name.partition))
        found = _newest_first((each for each in map(shipped_from, listed) if each), name.topic_id)
        shipper = base.rpartition("/")[2]
        own = [each for each in found if each.shipper == shipper]
        newest = max((each.modified for each in own), default=datetime.min.replace(tzinfo=UTC))
        old = [each for each in found[self.keep :] if newest - each.modified > ORPHAN_AGE and each.shipper != shipper]
        going = {each.path for each in own[self.keep :] + old}
        for path in sorted(going):
            self._objects.delete(path)
        staying = [each for each in found if each.path not in going]
        for path in self._unnamed(listed, staying, shipper, newest=newest):
            self._objects.delete(path)

    def _unnamed(
        self, listed: Iterable[Listed], staying: list[ShippedCheckpoint], shipper: str, *, newest: datetime
    ) -> list[str]:
        named: set[str] = set()
        for kept in staying:
            if kept.shipper == shipper:
                value = self._objects.get(kept.path, MAX_MANIFEST_BYTES)
                files = [] if value is None else decode_shipped(value, kept.path).files
                named.update(file.content for file in files)
        others = {kept.shipper for kept in staying} - {shipper}
        unnamed = []
        for each in listed:
            owner = shipper_of(each.path)
            is_own = owner == shipper and each.path.rpartition("/")[2] not in named
            is_orphan = owner not in (None, shipper, *others) and newest - each.modified > ORPHAN_AGE
            if is_own or is_orphan:
                unnamed.append(each.path)
        return unnamed


def _manifest(name: CheckpointName, files: list[ShippedFile]) -> ShippedManifest:
    return ShippedManifest(partition=name.partition, topic_id=name.topic_id, applied=name.applied, files=files)


def _newest_first(found: Iterable[ShippedCheckpoint], topic_id: str) -> list[ShippedCheckpoint]:
    def rank(each: ShippedCheckpoint) -> tuple[bool, int, datetime, str]:
        is_current = each.topic_id == topic_id
        return is_current, each.applied if is_current else 0, each.modified, each.path

    return sorted(found, key=rank, reverse=True)


def _check_header_is_one(folder: Path) -> None:
    try:
        msgspec.msgpack.decode(read_stored(folder, HEADER), type=dict[str, Any])
    except (msgspec.DecodeError, ValueError) as error:
        raise SnapshotError(f"the header in {folder} is none: {error}") from error


def _checksum(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _shipper(folder: Path, partition: int) -> str:
    # A disk keeps its shipper over restarts; two disks, or two folders on one, never have the same.
    path = folder / f"p{partition}.shipper"
    if path.exists():
        found = path.read_text(encoding="ascii", errors="replace")
        if re.fullmatch("[0-9a-f]{16}", found):
            return found
    made = secrets.token_hex(8)
    path.write_text(made, encoding="ascii")
    return made
