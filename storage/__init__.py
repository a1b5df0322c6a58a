"""What stays: per-user sequences, checkpoints and snapshots.

Sequences lie in one RocksDB for each source partition (`SequenceStore`), snapshots of the model in a folder or an
object store (`SnapshotStore`). It knows neither torch nor Kafka: what reads the log and what trains are elsewhere.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.alias import Alias, Pin
    from storage.aliases import Aliases, Resolved
    from storage.folded import FoldedSequence, Update
    from storage.keys import OutboxKey
    from storage.manifest import Manifest, ManifestDraft, Pointer, SampleMark, SnapshotFile, Table
    from storage.sequence_store import SequenceStore
    from storage.snapshot_settings import SnapshotSettings
    from storage.snapshot_store import SnapshotStore
    from storage.store_settings import StoreSettings
    from storage.user_run import Applied

__all__ = [
    "Alias",
    "Aliases",
    "Applied",
    "FoldedSequence",
    "Manifest",
    "ManifestDraft",
    "OutboxKey",
    "Pin",
    "Pointer",
    "Resolved",
    "SampleMark",
    "SequenceStore",
    "SnapshotFile",
    "SnapshotSettings",
    "SnapshotStore",
    "StoreSettings",
    "Table",
    "Update",
]

_MODULES = {
    "storage.alias": ("Alias", "Pin"),
    "storage.aliases": ("Aliases", "Resolved"),
    "storage.folded": ("FoldedSequence", "Update"),
    "storage.keys": ("OutboxKey",),
    "storage.manifest": ("Manifest", "ManifestDraft", "Pointer", "SampleMark", "SnapshotFile", "Table"),
    "storage.sequence_store": ("SequenceStore",),
    "storage.snapshot_settings": ("SnapshotSettings",),
    "storage.snapshot_store": ("SnapshotStore",),
    "storage.store_settings": ("StoreSettings",),
    "storage.user_run": ("Applied",),
}


def __getattr__(name: str) -> Any:
    # At first use: sequences are compiled code, and who reads a snapshot or an error's class should not load that.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'storage' has no attribute {name!r}")
