"""Records sent on into `events`: keyed by user, with an id by which a second copy is told."""

import msgspec

from streams.events import Encoding, Event, InvalidEventError, Tick, sized_value

ORIGIN = "headwater.origin"
"""Header that says where a forwarded record came from: topic, partition and offset."""


def forwarded(event: Event, *, event_id: str, encoding: Encoding) -> tuple[bytes, bytes]:
    """Key and value of the event, under `event_id` where it has no id of its own; raises `InvalidEventError`.

    >>> from streams.events import Action
    >>> event = Action(user_id="ada", item_id="b", action="click", ts_ms=5)
    >>> forwarded(event, event_id="t1-0-7", encoding="json")[1]
    b'{"type":"action","event_id":"t1-0-7","ts_ms":5,"user_id":"ada","item_id":"b","action":"click"}'
    """
    if isinstance(event, Tick):
        raise InvalidEventError("unknown_type", "a tick is of one partition and cannot be forwarded")
    if event.event_id is None:
        event = msgspec.structs.replace(event, event_id=event_id)
    return event.user_id.encode(), sized_value(event, encoding)
