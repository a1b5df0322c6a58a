"""What stays: per-user sequences, checkpoints and snapshots. It knows neither torch nor Kafka."""

from storage.chunk import Applied
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings

__all__ = ["Applied", "OutboxKey", "SequenceStore", "StoreSettings"]
