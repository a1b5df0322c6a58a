"""What has to leave the store for Kafka, in the order of the log: due samples, refused records, who is forgotten."""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

import msgspec
from rocksdict import WriteBatch

from storage.changes import ForgetRef, Refused, SampleRef
from storage.database import Database, new_batch
from storage.keys import MAX_POSITION, OUTBOX, OutboxKey, outbox_from, outbox_key

Outgoing: TypeAlias = SampleRef | ForgetRef | Refused

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Outgoing] = msgspec.msgpack.Decoder(SampleRef | ForgetRef | Refused)
_END = outbox_key(OutboxKey(MAX_POSITION, 0))


class Outbox:
    """The outbox of one database, with an index in memory of which user's samples are pending."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._users: dict[OutboxKey, str | None] = {}
        self._pending: dict[str, deque[int]] = {}
        for key, value in db.scan(OUTBOX, _END):
            self.added(outbox_from(key), _decoder.decode(value))

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, key: OutboxKey) -> bool:
        return key in self._users

    def put(self, batch: WriteBatch, key: OutboxKey, item: Outgoing) -> None:
        """Write an item with the batch; `added` must follow once that is written."""
        batch.put(outbox_key(key), _encoder.encode(item))

    def added(self, key: OutboxKey, item: Outgoing) -> None:
        """Note an item that is in the database."""
        user_id = item.user_id if isinstance(item, SampleRef) else None
        self._users[key] = user_id
        if user_id is not None:
            self._pending.setdefault(user_id, deque()).append(key.position)

    def oldest_pending(self, user_id: str) -> int | None:
        """Position of the oldest sample of this user that is still to be sent."""
        pending = self._pending.get(user_id)
        return pending[0] if pending else None

    def samples_of(self, user_id: str) -> list[OutboxKey]:
        """Keys of a user's samples that are still to be sent."""
        return [key for key, owner in self._users.items() if owner == user_id] if user_id in self._pending else []

    def items(self, limit: int, after: OutboxKey | None) -> list[tuple[OutboxKey, Outgoing]]:
        """At most `limit` items, oldest first, from behind `after`."""
        # Starting at the oldest item that is left passes over the tombstones of those acknowledged.
        first = next(iter(self._users), None)
        if first is None:
            return []
        start = outbox_key(first) if after is None else outbox_key(after) + b"\0"
        found = islice(self._db.scan(start, _END), limit)
        return [(outbox_from(key), _decoder.decode(value)) for key, value in found]

    def acknowledge(self, keys: Iterable[OutboxKey]) -> list[tuple[OutboxKey, str]]:
        """Delete items that have arrived, passing over those no longer there; which samples went, and whose."""
        known = {key: self._users[key] for key in keys if key in self._users}
        batch = new_batch()
        for key in known:
            batch.delete(outbox_key(key))
        self._db.write(batch)
        self.removed(known)
        return [(key, user_id) for key, user_id in known.items() if user_id is not None]

    def removed(self, keys: Iterable[OutboxKey]) -> None:
        """Note items that are no longer in the database."""
        for key in keys:
            user_id = self._users.pop(key)
            if user_id is None:
                continue
            pending = self._pending[user_id]
            pending.remove(key.position)  # the first, where they arrive in order
            if not pending:
                del self._pending[user_id]
