"""What the records of a chunk ask the store to do: plain events in columns, the others one by one."""

from collections.abc import Sequence
from typing import Any

from storage.changes import Acted, Change, Exposed, Forgot, Ticked, Updated
from storage.records import Records
from streams.dead_letters import refuse
from streams.events import Action, Forget, Impression, InvalidEventError, Tick, UserUpdate, decode_event
from streams.parsing import EventParser


class ChunkDecoder:
    """Turns the records of a chunk into columns, and those that these cannot hold into changes."""

    def __init__(self, actions: Sequence[str]) -> None:
        self._parser = EventParser(actions)
        self._decoder = ChangeDecoder(actions)

    def decode(self, records: Sequence[Any]) -> tuple[list[Change], Records]:
        """Changes and columns of Kafka records, both in their order; each record is in one of them."""
        columns, others = self._parser.parse(records)
        return self._decoder.decode(others), columns


class ChangeDecoder:
    """Turns records into changes, each record by itself: a bad one becomes `Refused`, the rest go on."""

    def __init__(self, actions: Sequence[str]) -> None:
        self._index = {name: index for index, name in enumerate(actions)}
        self._names = frozenset(actions)

    def decode(self, records: Sequence[Any]) -> list[Change]:
        """Changes of Kafka records (`offset`, `key`, `value`, `timestamp`), in their order."""
        return [self._decode_one(record) for record in records]

    def _decode_one(self, record: Any) -> Change:
        kafka_ms: int = record.timestamp
        try:
            event = decode_event(record.key, record.value, kafka_ms, self._names)
        except InvalidEventError as error:
            return refuse(record, error)
        # By place and not by name: this runs for every record.
        if isinstance(event, Action):
            return Acted(
                record.offset,
                event.user_id,
                event.ts_ms,
                kafka_ms,
                event.item_id,
                self._index[event.action],
                event.value,
                event.request_id,
                event.event_id,
            )
        return _change(record.offset, kafka_ms, event)


def _change(offset: int, kafka_ms: int, event: Impression | UserUpdate | Forget | Tick) -> Change:
    if isinstance(event, Impression):
        return Exposed(offset, event.user_id, event.ts_ms, kafka_ms, event.items, event.request_id, event.event_id)
    if isinstance(event, UserUpdate):
        return Updated(offset, event.user_id, event.ts_ms, event.features)
    if isinstance(event, Forget):
        return Forgot(offset, event.user_id)
    return Ticked(offset, event.ts_ms)
