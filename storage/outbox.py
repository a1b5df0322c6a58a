"""What has to leave the store for Kafka: due samples, by reference, and refused records; in the order of the log."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

import msgspec
from rocksdict import WriteBatch

from storage.changes import Refused, SampleRef
from storage.database import Database, new_batch
from storage.keys import MAX_POSITION, OUTBOX, OutboxKey, outbox_from, outbox_key

Outgoing: TypeAlias = SampleRef | Refused

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Outgoing] = msgspec.msgpack.Decoder(SampleRef | Refused)
_END = outbox_key(OutboxKey(MAX_POSITION, 0))


class Outbox:
    """The outbox of one database, with an index in memory of whose samples are pending."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._users: dict[OutboxKey, str | None] = {}
        self._num_pending: Counter[str] = Counter()
        for key, value in db.scan(OUTBOX, _END):
            self.added(outbox_from(key), _decoder.decode(value))

    def __len__(self) -> int:
        return len(self._users)

    def put(self, batch: WriteBatch, key: OutboxKey, item: Outgoing) -> None:
        """Write an item with the batch; `added` must follow once that is written."""
        batch.put(outbox_key(key), _encoder.encode(item))

    def added(self, key: OutboxKey, item: Outgoing) -> None:
        """Note an item that is in the database."""
        user_id = item.user_id if isinstance(item, SampleRef) else None
        self._users[key] = user_id
        if user_id is not None:
            self._num_pending[user_id] += 1

    def has_pending(self, user_id: str) -> bool:
        """Whether a sample of this user is still to be sent."""
        return user_id in self._num_pending

    def items(self, limit: int, after: OutboxKey | None) -> list[tuple[OutboxKey, Outgoing]]:
        """At most `limit` items, oldest first, from behind `after`."""
        # Starting at the oldest item that is left passes over the tombstones of those acknowledged.
        first = next(iter(self._users), None)
        if first is None:
            return []
        start = outbox_key(first) if after is None else outbox_key(after) + b"\0"
        found = islice(self._db.scan(start, _END), limit)
        return [(outbox_from(key), _decoder.decode(value)) for key, value in found]

    def acknowledge(self, keys: Iterable[OutboxKey]) -> None:
        """Delete items that have arrived; one that is no longer there is passed over."""
        batch = new_batch()
        known = {key for key in keys if key in self._users}
        for key in known:
            batch.delete(outbox_key(key))
        self._db.write(batch)
        for key in known:
            self._forget(key)

    def _forget(self, key: OutboxKey) -> None:
        user_id = self._users.pop(key)
        if user_id is None:
            return
        self._num_pending[user_id] -= 1
        if not self._num_pending[user_id]:
            del self._num_pending[user_id]
