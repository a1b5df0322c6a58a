"""What has to leave the store for Kafka: due samples, by reference, and refused records; in the order of the log."""

from collections.abc import Iterable
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
        self._since: dict[str, dict[OutboxKey, int]] = {}
        for key, value in db.scan(OUTBOX, _END):
            self.added(outbox_from(key), _decoder.decode(value))

    def __len__(self) -> int:
        return len(self._users)

    def put(self, batch: WriteBatch, key: OutboxKey, item: Outgoing) -> None:
        """Write an item with the batch; `added` must follow once that is written."""
        batch.put(outbox_key(key), _encoder.encode(item))

    def added(self, key: OutboxKey, item: Outgoing) -> None:
        """Note an item that is in the database."""
        self._users[key] = item.user_id if isinstance(item, SampleRef) else None
        if isinstance(item, SampleRef):
            self._since.setdefault(item.user_id, {})[key] = item.since

    def items(self, limit: int, after: OutboxKey | None) -> list[tuple[OutboxKey, Outgoing]]:
        """At most `limit` items, oldest first, from behind `after`."""
        # Starting at the oldest item that is left passes over the tombstones of those acknowledged.
        first = next(iter(self._users), None)
        if first is None:
            return []
        start = outbox_key(first) if after is None else outbox_key(after) + b"\0"
        found: list[tuple[OutboxKey, Outgoing]] = []
        for key, value in self._db.scan(start, _END):
            if len(found) >= limit:
                break
            found.append((outbox_from(key), _decoder.decode(value)))
        return found

    def acknowledge(self, keys: Iterable[OutboxKey]) -> None:
        """Delete items that have arrived; one that is no longer there is passed over."""
        batch = new_batch()
        known = [key for key in keys if key in self._users]
        for key in known:
            batch.delete(outbox_key(key))
        self._db.write(batch)
        for key in known:
            self._forget(key)

    def oldest_since(self, user_id: str) -> int | None:
        """Where the range of the user's oldest pending sample begins; None without one."""
        return next(iter(self._since.get(user_id, {}).values()), None)

    def _forget(self, key: OutboxKey) -> None:
        user_id = self._users.pop(key, None)
        if user_id is not None:
            pending = self._since[user_id]
            del pending[key]
            if not pending:
                del self._since[user_id]
