"""What stays: per-user sequences, checkpoints and snapshots.

Sequences lie in one RocksDB for each source partition (`SequenceStore`), snapshots of the model in a folder or an
object store (`SnapshotStore`). It knows neither torch nor Kafka: what reads the log and what trains are elsewhere.
"""

from storage.folded import FoldedSequence, Update
from storage.keys import OutboxKey
from storage.manifest import Manifest, ManifestDraft, Pointer, SampleMark, SnapshotFile, Table
from storage.sequence_store import SequenceStore
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from storage.store_settings import StoreSettings
from storage.user_run import Applied

__all__ = [
    "Applied",
    "FoldedSequence",
    "Manifest",
    "ManifestDraft",
    "OutboxKey",
    "Pointer",
    "SampleMark",
    "SequenceStore",
    "SnapshotFile",
    "SnapshotSettings",
    "SnapshotStore",
    "StoreSettings",
    "Table",
    "Update",
]
