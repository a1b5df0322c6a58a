"""What workers told of users lately, so that they need to tell only what is new."""

import msgspec

from deploy.sequence_columns import SequenceColumns

ENTRY_BYTES = 1_024
"""What an entry takes beside the encoded columns, at most."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SequenceColumns)


class ToldSequences:
    """Sequences of the users asked about last, encoded, of at most `limit_bytes` together."""

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes must be >= 0, got {limit_bytes}")
        self.limit_bytes = limit_bytes
        self.num_bytes = 0
        """What all entries take."""
        self._told: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._told)

    def get(self, user_id: str) -> SequenceColumns | None:
        """What was put last, if it is still there."""
        told = self._told.pop(user_id, None)
        if told is None:
            return None
        self._told[user_id] = told
        return _decoder.decode(told)

    def put(self, columns: SequenceColumns) -> None:
        """Hold a user's columns in place of former ones; those asked for longest ago go where the limit says so."""
        self._drop(columns.user_id)
        told = _encoder.encode(columns)
        if self.limit_bytes < ENTRY_BYTES + len(told):
            return
        self._told[columns.user_id] = told
        self.num_bytes += ENTRY_BYTES + len(told)
        while self.num_bytes > self.limit_bytes:
            self._drop(next(iter(self._told)))

    def _drop(self, user_id: str) -> None:
        told = self._told.pop(user_id, None)
        if told is not None:
            self.num_bytes -= ENTRY_BYTES + len(told)
