"""What of a shipped checkpoint is believed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database, new_batch
from storage.errors import SnapshotError
from storage.keys import HEADER
from tests.storage.plain import StoreFactory
from tests.storage.shipped import fill, shipping_to


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
