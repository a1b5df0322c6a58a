"""Shipped checkpoints of small stores."""

from pathlib import Path

from storage.changes import Acted, Change
from storage.sequence_store import SequenceStore
from storage.shipped_manifest import MAX_MANIFEST_BYTES, ShippedManifest, decode_shipped
from storage.shipping import CheckpointShipping

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
