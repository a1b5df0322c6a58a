"""Checkpoints in an object store: what is uploaded, what stays, what is believed."""

import contextlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.changes import Acted, Change
from storage.database import Database, new_batch
from storage.errors import SnapshotError
from storage.keys import HEADER
from storage.objects import Objects
from storage.sequence_store import SequenceStore
from storage.shipped_manifest import MAX_MANIFEST_BYTES, ShippedManifest, decode_shipped
from storage.shipping import CheckpointShipping
from tests.storage.plain import StoreFactory

OLD = -7_200.0


def fill(store: SequenceStore, last: int, *, users: int = 1) -> None:
    changes: list[Change] = [
        Acted(offset=offset, user_id=f"user{offset % users}", ts_ms=offset, kafka_ms=offset, item_id="x", action=0)
        for offset in range(store.applied + 1, last + 1)
    ]
    store.apply(store.applied + 1, last, changes)


def shipping_to(folder: Path, keep: int = 2) -> CheckpointShipping:
    return CheckpointShipping(str(folder), topic="events", keep=keep)


def manifest_of(shipping: CheckpointShipping, path: str) -> ShippedManifest:
    value = shipping._objects.get(path, MAX_MANIFEST_BYTES)
    assert value is not None
    return decode_shipped(value, path)


def objects(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def named(shipping: CheckpointShipping, partition: int = 0) -> set[str]:
    """Every object that a complete listing may hold: manifests and what they name."""
    found = shipping.newest_first(partition, "t1")
    files = {
        f"events/p{partition}/{each.shipper}/files/{file.content}"
        for each in found
        for file in manifest_of(shipping, each.path).files
    }
    return files | {each.path for each in found}


@pytest.mark.parametrize("url", ["memory://", "{folder}", "file://{folder}"])
def test_a_shipped_checkpoint_comes_back_whole(store_factory: StoreFactory, tmp_path: Path, url: str) -> None:
    """A worker on another machine needs the same state, whatever store lies between."""
    store = store_factory()
    fill(store, 30)
    place = store.checkpoint()
    shipping = CheckpointShipping(url.format(folder=tmp_path / "shipped"), topic="events", keep=2)
    assert shipping.ship(place) == sum(path.stat().st_size for path in place.iterdir())
    (shipped,) = shipping.newest_first(0, "t1")
    assert (shipped.topic_id, shipped.applied) == ("t1", 30)
    fetched = shipping.fetch(shipped, folder=tmp_path / "other" / "checkpoints", partition=0)
    assert fetched.name == place.name
    content = {path.name: path.read_bytes() for path in place.iterdir()}
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == content
    restored = store_factory(folder=tmp_path / "other")
    assert (restored.applied, restored.outbox(99)) == (30, store.outbox(99))


def test_unchanged_files_are_uploaded_once_and_what_nothing_names_goes(
    store_factory: StoreFactory, tmp_path: Path
) -> None:
    """A checkpoint a minute of a state of gigabytes must cost what has changed, in traffic and in space."""
    shipping = shipping_to(tmp_path / "shipped")
    store = store_factory()
    paid = []
    for last in (2_000, 2_001, 2_002, 2_003):
        fill(store, last, users=500)
        paid.append(shipping.ship(store.checkpoint()))
    # Once in four, RocksDB merges the files that checkpoints flushed.
    assert sorted(paid[1:])[-2] < paid[0] / 10, paid
    assert [each.applied for each in shipping.newest_first(0, "t1")] == [2_003, 2_002]
    assert objects(tmp_path / "shipped") == named(shipping)
    assert not list((tmp_path / "checkpoints").glob("*.shipping"))
    # The same disk goes on as the same shipper after a restart.
    again = shipping_to(tmp_path / "shipped")
    assert again.ship(store.checkpoint()) == 0
    assert {each.shipper for each in again.newest_first(0, "t1")} == {shipping.newest_first(0, "t1")[0].shipper}


def test_other_shippers_are_retired_only_when_old_and_behind(store_factory: StoreFactory, tmp_path: Path) -> None:
    """Deleting what a live worker still builds on would break its next checkpoint; never deleting fills the bucket."""
    shipped = tmp_path / "shipped"
    former = store_factory(folder=tmp_path / "a")
    for last in (10, 20):
        fill(former, last)
        shipping_to(shipped).ship(former.checkpoint())
    orphan = shipped / "events/p0/0123456789abcdef/files" / f"{'0' * 32}-4"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"left")
    store = store_factory(folder=tmp_path / "b")
    for last in (25, 30):
        fill(store, last)
        shipping_to(shipped).ship(store.checkpoint())
    assert [each.applied for each in shipping_to(shipped).newest_first(0, "t1")] == [30, 25, 20, 10]
    assert orphan.exists()
    own = shipping_to(shipped).newest_first(0, "t1")[0].shipper
    for path in shipped.rglob("*"):
        if path.is_file() and own not in str(path):
            os.utime(path, (path.stat().st_mtime + OLD,) * 2)
    fill(store, 31)
    shipping_to(shipped).ship(store.checkpoint())
    assert [each.applied for each in shipping_to(shipped).newest_first(0, "t1")] == [31, 30]
    assert objects(shipped) == named(shipping_to(shipped))


def test_the_newest_of_another_shipper_stays_however_old(store_factory: StoreFactory, tmp_path: Path) -> None:
    """A worker that replays from far behind must not delete the checkpoint that is ahead of it."""
    shipped = tmp_path / "shipped"
    ahead = store_factory(folder=tmp_path / "a")
    fill(ahead, 100)
    shipping_to(shipped).ship(ahead.checkpoint())
    for path in shipped.rglob("*"):
        os.utime(path, (path.stat().st_mtime + OLD,) * 2)
    behind = store_factory(folder=tmp_path / "b")
    for last in (1, 2, 3):
        fill(behind, last)
        shipping_to(shipped).ship(behind.checkpoint())
    found = shipping_to(shipped).newest_first(0, "t1")
    assert [each.applied for each in found] == [100, 3, 2]
    shipping_to(shipped).fetch(found[0], folder=tmp_path / "c", partition=0)


def test_a_checkpoint_retired_while_it_is_shipped_arrives_whole(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload takes longer than the checkpoint interval."""
    store = store_factory(num_checkpoints=1)
    fill(store, 5)
    first = store.checkpoint()
    upload = Objects.upload

    def upload_slowly(self: Objects, path: str, file: Path) -> None:
        if first.exists():
            fill(store, 9)
            store.checkpoint()
            assert not first.exists()
        upload(self, path, file)

    monkeypatch.setattr(Objects, "upload", upload_slowly)
    shipping = shipping_to(tmp_path / "shipped")
    shipping.ship(first)
    (shipped,) = shipping.newest_first(0, "t1")
    assert shipping.fetch(shipped, folder=tmp_path / "other", partition=0).is_dir()


@pytest.mark.parametrize("step", ["upload", "put", "delete"])
def test_a_ship_that_dies_at_any_step_leaves_what_is_there_usable(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Dying after step 1, 2, 3 or within 4: the newest manifest is whole, and the next ship tidies up."""
    shipping = shipping_to(tmp_path / "shipped")
    store = store_factory()
    for last in (3, 6):
        fill(store, last)
        shipping.ship(store.checkpoint())
    fill(store, 9)
    place = store.checkpoint()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Objects, step, die)
        with pytest.raises(KeyboardInterrupt):
            shipping.ship(place)
    newest = shipping.newest_first(0, "t1")[0]
    assert newest.applied == (9 if step == "delete" else 6)
    assert shipping.fetch(newest, folder=tmp_path / "other", partition=0).is_dir()
    leftover = tmp_path / "checkpoints" / "p0.t1@1.1.shipping"
    leftover.mkdir()
    shipping.ship(place)
    assert [each.applied for each in shipping.newest_first(0, "t1")] == [9, 6]
    assert objects(tmp_path / "shipped") == named(shipping)
    assert not leftover.exists()


def test_files_that_vanish_before_their_manifest_leave_none(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest of files that are gone would pass for a checkpoint."""
    store = store_factory()
    fill(store, 3)
    shipping = shipping_to(tmp_path / "shipped")
    upload = Objects.upload

    def lose(self: Objects, path: str, file: Path) -> None:
        upload(self, path, file)
        if file.name == "CURRENT":
            self.delete(path)

    monkeypatch.setattr(Objects, "upload", lose)
    with pytest.raises(SnapshotError, match="lost CURRENT while it was written: the next checkpoint is shipped anew"):
        shipping.ship(store.checkpoint())
    assert shipping.newest_first(0, "t1") == []


def _corrupt(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "byte": ("files/*-16", _corrupt, "must have xxh3-128"),
    "size": ("files/*-16", _cut, "must have 16 bytes, got 15"),
    "file": ("files/*-16", Path.unlink, "is deleted by now"),
    "manifest": ("*.json", _cut, "is no manifest of a checkpoint"),
    "no manifest": ("*.json", Path.unlink, "is retired by now"),
}


@pytest.mark.parametrize(("pattern", "damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_never_used(
    store_factory: StoreFactory, tmp_path: Path, pattern: str, damage: Callable[[Path], None], message: str
) -> None:
    """One flipped bit in a bucket would be every user's sequence."""
    store = store_factory()
    fill(store, 3)
    shipping = shipping_to(tmp_path / "shipped")
    shipping.ship(store.checkpoint())
    (shipped,) = shipping.newest_first(0, "t1")
    (path,) = (tmp_path / "shipped" / "events" / "p0" / shipped.shipper).glob(pattern)
    damage(path)
    target = tmp_path / "other"
    with pytest.raises(SnapshotError, match=message):
        shipping.fetch(shipped, folder=target, partition=0)
    assert list(target.glob("*")) == []


def test_a_manifest_must_be_of_the_place_where_it_lies(store_factory: StoreFactory, tmp_path: Path) -> None:
    """A checkpoint moved to another partition or offset by hand would pass for that one."""
    store = store_factory()
    fill(store, 3)
    shipping = shipping_to(tmp_path / "shipped")
    shipping.ship(store.checkpoint())
    (shipped,) = shipping.newest_first(0, "t1")
    for partition, path in ((1, shipped.path), (0, shipped.path.replace("t1@3", "t1@4"))):
        source = tmp_path / "shipped" / shipped.path
        target = tmp_path / "shipped" / path
        shutil.copyfile(source, target) if source != target else None
        moved = shipped._replace(path=path, applied=4 if partition == 0 else 3)
        with pytest.raises(SnapshotError, match="is the manifest of another checkpoint"):
            shipping.fetch(moved, folder=tmp_path / "other", partition=partition)
    lie = (tmp_path / "shipped" / shipped.path).read_text().replace('"applied":3', '"applied":4')
    (tmp_path / "shipped" / moved.path).write_text(lie)
    with pytest.raises(SnapshotError, match="must hold t1@4, got t1@3"):
        shipping.fetch(moved, folder=tmp_path / "other", partition=0)


@pytest.mark.parametrize("header", [b"\xc1", b"\x90", b"", b"\x81\xa1a\xd9\x02\xff\xff"])
def test_a_header_that_is_none_is_a_damage_as_any_other(tmp_path: Path, header: bytes) -> None:
    """What cannot be decoded would end the worker instead of passing the checkpoint over, again at each start."""
    db = Database(tmp_path / "db")
    batch = new_batch()
    batch.put(HEADER, header)
    db.write(batch)
    place = tmp_path / "checkpoints" / "p0.t1@3.1"
    place.parent.mkdir()
    db.checkpoint(place)
    db.close()
    shipping = shipping_to(tmp_path / "shipped")
    shipping.ship(place)
    (shipped,) = shipping.newest_first(0, "t1")
    with pytest.raises(SnapshotError, match=r"the header in .* is none"):
        shipping.fetch(shipped, folder=tmp_path / "other", partition=0)


def test_a_disk_that_is_too_small_is_said_before_it_is_full(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes the other partitions down."""
    store = store_factory()
    fill(store, 3)
    shipping = shipping_to(tmp_path / "shipped")
    shipping.ship(store.checkpoint())
    (shipped,) = shipping.newest_first(0, "t1")
    usage: Any = type("Usage", (), {"free": 10})
    monkeypatch.setattr("storage.shipping.shutil.disk_usage", lambda _: usage)
    with pytest.raises(SnapshotError, match=r"10 are free in .*: make room there"):
        shipping.fetch(shipped, folder=tmp_path / "other", partition=0)


@pytest.mark.parametrize("topic", ["", "..", ".", "a/b", "a\0", "x" * 250])
def test_a_topic_that_is_no_topic_is_refused(tmp_path: Path, topic: str) -> None:
    """It becomes a folder's name."""
    with pytest.raises(ValueError, match="topic must be the name of a Kafka topic"):
        CheckpointShipping(str(tmp_path), topic=topic, keep=2)


def test_a_shippers_name_that_is_damaged_is_made_anew(store_factory: StoreFactory, tmp_path: Path) -> None:
    """It is part of paths in the object store: what a torn write left must not become one."""
    store = store_factory()
    fill(store, 5)
    shipping = shipping_to(tmp_path / "shipped")
    shipping.ship(store.checkpoint())
    (named_in,) = tmp_path.rglob("p0.shipper")
    for damaged in (b"", b"0123", b"../../../../etc/", b"\xff" * 16):
        named_in.write_bytes(damaged)
        fill(store, store.applied + 1)
        shipping_to(tmp_path / "shipped").ship(store.checkpoint())
        assert len(named_in.read_text()) == 16
    found = shipping.newest_first(0, "t1")
    assert len({each.shipper for each in found}) == len(found) == 5


@pytest.mark.parametrize("seed", range(4))
def test_whatever_fails_and_whoever_ships_every_manifest_is_whole(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A manifest whose files are gone looks like a checkpoint until the day it is needed."""
    rng = random.Random(seed)
    shipped = tmp_path / "shipped"
    stores = [store_factory(folder=tmp_path / name) for name in "ab"]
    newest = -1
    for _ in range(25):
        store = rng.choice(stores)
        fill(store, store.applied + rng.randint(1, 40), users=7)
        place = store.checkpoint()
        with monkeypatch.context() as patched:
            if rng.random() < 0.4:
                _fail_after(patched, rng.choice(["upload", "put", "delete"]), rng.randint(0, 3))
            with contextlib.suppress(SnapshotError):
                shipping_to(shipped).ship(place)
        found = shipping_to(shipped).newest_first(0, "t1")
        assert named(shipping_to(shipped)) <= objects(shipped)
        assert (found[0].applied if found else -1) >= newest
        newest = found[0].applied if found else -1
        if rng.random() < 0.3:
            for path in (path for path in shipped.rglob("*") if path.is_file()):
                os.utime(path, (path.stat().st_mtime + OLD,) * 2)
    for store in stores:
        fill(store, newest + 1)
        shipping_to(shipped).ship(store.checkpoint())
    last = shipping_to(shipped).newest_first(0, "t1")[0]
    assert shipping_to(shipped).fetch(last, folder=tmp_path / "c", partition=0).is_dir()


def _fail_after(patched: pytest.MonkeyPatch, method: str, lives: int) -> None:
    original = getattr(Objects, method)
    left = iter(range(lives))

    def fail(self: Objects, *args: Any) -> Any:
        if next(left, None) is None:
            raise SnapshotError("the store is away")
        return original(self, *args)

    patched.setattr(Objects, method, fail)
