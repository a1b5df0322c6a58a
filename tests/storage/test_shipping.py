"""Checkpoints in an object store: what is uploaded, what stays, what is believed."""

import contextlib
import os
import random
from pathlib import Path
from typing import Any

import pytest

from storage.errors import SnapshotError
from storage.objects import Objects
from storage.shipping import CheckpointShipping
from tests.storage.plain import StoreFactory
from tests.storage.shipped import OLD, fill, named, objects, shipping_to


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
