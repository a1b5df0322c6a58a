"""What the records of a chunk ask the store to do."""

import hashlib
from collections.abc import Sequence
from typing import Any

from storage.changes import Acted, Change, Exposed, Refused, Updated
from streams.events import Action, Event, Impression, InvalidEventError, UserUpdate, decode_event

MAX_HEAD_BYTES = 64 * 1024
"""How much of a refused record's value is kept."""
MAX_KEY_BYTES = 1_024
"""How much of a refused record's key is kept."""
MAX_MESSAGE_LENGTH = 500
"""How much is kept of why a record was refused."""


class ChangeDecoder:
    """Turns records into changes, each record by itself: a bad one becomes `Refused`, the rest go on."""

    def __init__(self, actions: Sequence[str]) -> None:
        self._index = {name: index for index, name in enumerate(actions)}
        self._names = frozenset(actions)

    def decode(self, records: Sequence[Any]) -> list[Change]:
        """Changes of Kafka records (`offset`, `key`, `value`, `timestamp`), in their order; a `Tick` makes none."""
        changes = (self._decode_one(record) for record in records)
        return [change for change in changes if change is not None]

    def _decode_one(self, record: Any) -> Change | None:
        try:
            event = decode_event(record.key, record.value, record.timestamp, self._names)
        except InvalidEventError as error:
            return _refused(record, error)
        return self._change(record.offset, record.timestamp, event)

    def _change(self, offset: int, kafka_ms: int, event: Event) -> Change | None:
        if isinstance(event, Action):
            return Acted(
                offset=offset,
                user_id=event.user_id,
                ts_ms=event.ts_ms,
                kafka_ms=kafka_ms,
                item_id=event.item_id,
                action=self._index[event.action],
                value=event.value,
                request_id=event.request_id,
            )
        if isinstance(event, Impression):
            return Exposed(
                offset=offset,
                user_id=event.user_id,
                ts_ms=event.ts_ms,
                kafka_ms=kafka_ms,
                item_ids=event.items,
                request_id=event.request_id,
            )
        if isinstance(event, UserUpdate):
            return Updated(offset=offset, user_id=event.user_id, features=event.features)
        return None


def _refused(record: Any, error: InvalidEventError) -> Refused:
    value = record.value or b""
    return Refused(
        offset=record.offset,
        kafka_ms=record.timestamp,
        cause=error.cause,
        message=str(error)[:MAX_MESSAGE_LENGTH],
        key=(record.key or b"")[:MAX_KEY_BYTES],
        head=value[:MAX_HEAD_BYTES],
        size=len(value),
        sha256=hashlib.sha256(value).hexdigest(),
    )
