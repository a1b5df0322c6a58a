"""What workers told of users lately, so that they need to tell only what is new."""

import msgspec

from deploy.sequence_columns import SequenceColumns
from model.recently_used import RecentlyUsed

ENTRY_BYTES = 1_024
"""What an entry takes beside the encoded columns, at most."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SequenceColumns)


class ToldSequences:
    """Sequences of the users asked about last, encoded, of at most `limit_bytes` together."""

    def __init__(self, limit_bytes: int) -> None:
        self._told: RecentlyUsed[bytes] = RecentlyUsed(limit_bytes)

    def __len__(self) -> int:
        return len(self._told)

    @property
    def limit_bytes(self) -> int:
        """Most that all entries may take; 0 holds nothing."""
        return self._told.limit_bytes

    @property
    def num_bytes(self) -> int:
        """What all entries take."""
        return self._told.num_bytes

    def get(self, user_id: str) -> SequenceColumns | None:
        """What was put last, if it is still there."""
        told = self._told.take(user_id)
        if told is None:
            return None
        self._hold(user_id, told)
        return _decoder.decode(told)

    def put(self, columns: SequenceColumns) -> None:
        """Hold a user's columns in place of former ones; those asked for longest ago go where the limit says so."""
        self._hold(columns.user_id, _encoder.encode(columns))

    def _hold(self, user_id: str, told: bytes) -> None:
        self._told.put(user_id, told, ENTRY_BYTES + len(told))
