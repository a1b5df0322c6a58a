"""The events that flow through the topic `events`: types, limits, JSON and MessagePack.

One tagged union, one topic, keyed by user. A value that begins with the first byte of a MessagePack map is read as
MessagePack, any other as JSON; names, types and limits are the same. Fields that this version does not know are
ignored, so that producers may be newer than workers; a field may be added with a default, never removed or given
another meaning, and a kind may be added, whose records a worker that does not know it refuses; anything else raises
`SCHEMA_VERSION`, and a record of a higher version than ours is refused.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 1
"""The newest version of the event schema that this code reads."""
MAX_EVENT_BYTES = 256 * 1024
"""Largest value of a record."""
MAX_ID_BYTES = 256
"""Largest user, item, event or request id, in UTF-8."""
MAX_ITEMS = 1_000
"""Most items in an impression."""
MAX_FEATURES = 64
"""Most entries in an impression's context or a user update."""
MAX_TIME_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
MAX_FUTURE_MS = 3_600_000
"""How far an event's time may lie after its record's Kafka time."""

Cause: TypeAlias = Literal[
    "empty_key",
    "wrong_key",
    "too_large",
    "malformed_json",
    "malformed_msgpack",
    "not_finite",
    "missing_field",
    "wrong_type",
    "out_of_range",
    "id_length",
    "items_length",
    "unknown_type",
    "unknown_action",
    "unknown_version",
    "future_time",
]
"""Why a record was refused."""
Encoding: TypeAlias = Literal["json", "msgpack"]
"""How an event's value is written."""
Kind: TypeAlias = Literal["event", "impression", "action"]
"""What a topic holds: any events, or those of one type."""

Time = Annotated[int, Meta(ge=0, le=MAX_TIME_MS, description="milliseconds since 1970, UTC")]
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES, description="1 to 256 bytes of UTF-8")]
Version = Annotated[int, Meta(ge=1, description="schema version")]
Feature = str | int | float | bool


class InvalidEventError(ValueError):
    """A record that is no valid event; `cause` is its kind."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True, gc=False):
    event_id: Id | None = None
    ts_ms: Time
    v: Version = 1


class Impression(_Event, frozen=True, kw_only=True, tag="impression"):
    """Items were shown to a user."""

    user_id: Id
    items: Annotated[list[Id], Meta(min_length=1, max_length=MAX_ITEMS)]
    request_id: Id | None = None
    context: Annotated[dict[Id, Feature], Meta(max_length=MAX_FEATURES)] = {}


class Action(_Event, frozen=True, kw_only=True, tag="action"):
    """A user acted on an item; `request_id` names the impression, where it is known."""

    user_id: Id
    item_id: Id
    action: Id
    value: float | None = None
    request_id: Id | None = None


class UserUpdate(_Event, frozen=True, kw_only=True, tag="user_update"):
    """Slowly changing features of a user; the ones named replace the former ones."""

    user_id: Id
    features: Annotated[dict[Id, Feature], Meta(min_length=1, max_length=MAX_FEATURES)]


class Forget(_Event, frozen=True, kw_only=True, tag="forget"):
    """What was kept of a user until then is to be forgotten; `ts_ms`, when that was asked for, moves no time on."""

    user_id: Id


class Tick(_Event, frozen=True, kw_only=True, tag="tick"):
    """Time passed in a partition without other records; appended by the partition's owner, without a key."""


Event: TypeAlias = Impression | Action | UserUpdate | Forget | Tick

_JSON = msgspec.json.Encoder()
_MSGPACK = msgspec.msgpack.Encoder()
_KINDS: dict[Kind, Any] = {"event": Event, "impression": Impression, "action": Action}
_JSON_READERS: dict[Kind, msgspec.json.Decoder[Event]] = {
    name: msgspec.json.Decoder(kind) for name, kind in _KINDS.items()
}
_MSGPACK_READERS: dict[Kind, msgspec.msgpack.Decoder[Event]] = {
    name: msgspec.msgpack.Decoder(kind) for name, kind in _KINDS.items()
}
_MSGPACK_MAPS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
_SAFE_LENGTH = MAX_ID_BYTES // 4
"""Text of at most so many characters has at most `MAX_ID_BYTES` bytes."""
_NOT_FINITE = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\b")
_MESSAGE_CAUSES: tuple[tuple[str, Cause], ...] = (
    ("missing required field", "missing_field"),
    ("Invalid value", "unknown_type"),
    ("$.items` of length", "items_length"),
    ("out of range", "out_of_range"),
    ("`int` <=", "out_of_range"),
    ("`int` >=", "out_of_range"),
    ("`array` of length", "items_length"),
    ("`str` of length", "id_length"),
    ("`object` of length", "out_of_range"),
)


def encode_event(event: Event, encoding: Encoding = "json") -> bytes:
    """The event's value in Kafka.

    >>> encode_event(Tick(event_id="t1", ts_ms=5))
    b'{"type":"tick","event_id":"t1","ts_ms":5}'
    >>> encode_event(Tick(ts_ms=5), "msgpack")
    b'\\x82\\xa4type\\xa4tick\\xa5ts_ms\\x05'
    """
    return _MSGPACK.encode(event) if encoding == "msgpack" else _JSON.encode(event)


def encoding_of(value: bytes) -> Encoding:
    """How a value that was decoded is written."""
    return "msgpack" if value[0] in _MSGPACK_MAPS else "json"


def checked_value(event: Event, encoding: Encoding = "json") -> bytes:
    """The event's value in Kafka; raises `InvalidEventError` for what a worker would refuse."""
    check_event(event)
    return sized_value(event, encoding)


def sized_value(event: Event, encoding: Encoding) -> bytes:
    """As `checked_value`, of an event that a worker would not refuse but for its size."""
    value = encode_event(event, encoding)
    if len(value) > MAX_EVENT_BYTES:
        raise InvalidEventError("too_large", f"an event must be at most {MAX_EVENT_BYTES} bytes, got {len(value)}")
    return value


def check_event(event: Event) -> None:
    """Raise `InvalidEventError` for what a worker would refuse of an event made in this process."""
    _check_version(event.v)
    _check_ids(event)
    if isinstance(event, Impression):
        if not 1 <= len(event.items) <= MAX_ITEMS:
            raise InvalidEventError("items_length", f"items must hold 1 to {MAX_ITEMS} ids, got {len(event.items)}")
        _check_items(event.items)
        _check_features("context", event.context, 0)
    elif isinstance(event, UserUpdate):
        _check_features("features", event.features, 1)
    elif isinstance(event, Action) and event.value is not None:
        if isinstance(event.value, bool):
            raise InvalidEventError("wrong_type", f"value must be a number, got {event.value}")
        _check_finite(event.value)
    if type(event.ts_ms) is not int:
        raise InvalidEventError("wrong_type", f"ts_ms must be an int, got {event.ts_ms!r}")
    if not 0 <= event.ts_ms <= MAX_TIME_MS:
        raise InvalidEventError("out_of_range", f"ts_ms must be 0 to {MAX_TIME_MS}, got {event.ts_ms}")


def decode_event(key: bytes | None, value: bytes | None, kafka_ms: int, actions: frozenset[str]) -> Event:
    """Read one record of the topic `events`.

    `kafka_ms` is the record's Kafka timestamp: an event may lie at most an hour after it. `actions` are the known
    action names. Raises `InvalidEventError`.
    """
    event = decode_value(value, kafka_ms, actions)
    if not isinstance(event, Tick) and key != event.user_id.encode():
        raise _wrong_key(key, event.user_id)
    return event


def decode_value(
    value: bytes | None,
    kafka_ms: int,
    actions: frozenset[str],
    kind: Kind = "event",
) -> Event:
    """As `decode_event`, whatever the key; the value of an impression or action `kind` need not name its type."""
    if not value or len(value) > MAX_EVENT_BYTES:
        raise _wrong_size(value)
    packed = value[0] in _MSGPACK_MAPS
    try:
        event = _MSGPACK_READERS[kind].decode(value) if packed else _JSON_READERS[kind].decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _undecodable(value, packed, error) from error
    if event.v > SCHEMA_VERSION:
        _check_version(event.v)
    # No encoding makes text shorter than its UTF-8, so no id of a short value is too long.
    if len(value) > MAX_ID_BYTES:
        _check_ids(event)
    if isinstance(event, Action):
        if event.value is not None and not math.isfinite(event.value):
            _check_finite(event.value)
        if event.action not in actions:
            known = ", ".join(sorted(actions))
            raise InvalidEventError("unknown_action", f"action must be one of {known}, got {event.action!r}")
    else:
        _check_contents(event)
    if event.ts_ms > kafka_ms + MAX_FUTURE_MS:
        raise InvalidEventError(
            "future_time", f"ts_ms {event.ts_ms} is over an hour after the record's time {kafka_ms}"
        )
    return event


def _check_contents(event: Event) -> None:
    if isinstance(event, Impression):
        if max(map(len, event.items)) > _SAFE_LENGTH:
            _check_items(event.items)
        if event.context:
            _check_features("context", event.context, 0)
    elif isinstance(event, UserUpdate):
        _check_features("features", event.features, 1)


def _undecodable(value: bytes, packed: bool, error: Exception) -> InvalidEventError:
    if isinstance(error, msgspec.ValidationError):
        message = str(error)
        return InvalidEventError(_cause(message), message)
    cause: Cause = "malformed_msgpack" if packed else "malformed_json"
    if not packed and _NOT_FINITE.search(value):
        cause = "not_finite"
    return InvalidEventError(cause, str(error))


def _cause(message: str) -> Cause:
    return next((cause for part, cause in _MESSAGE_CAUSES if part in message), "wrong_type")


def _wrong_size(value: bytes | None) -> InvalidEventError:
    size = len(value or b"")
    cause: Cause = "too_large" if size else "malformed_json"
    return InvalidEventError(cause, f"value must be 1 to {MAX_EVENT_BYTES} bytes, got {size}")


def _wrong_key(key: bytes | None, user_id: str) -> InvalidEventError:
    if not key:
        return InvalidEventError("empty_key", "key must be the user id, got an empty key")
    return InvalidEventError("wrong_key", f"key must equal user_id, got {key[:64]!r} for {user_id[:64]!r}")


def _check_version(version: int) -> None:
    if version < 1:
        raise InvalidEventError("out_of_range", f"v must be >= 1, got {version}")
    if version > SCHEMA_VERSION:
        raise InvalidEventError(
            "unknown_version", f"v must be <= {SCHEMA_VERSION}, got {version}: upgrade the workers first"
        )


def _check_ids(event: Event) -> None:
    if event.event_id is not None:
        _check_id("event_id", event.event_id)
    if not isinstance(event, Tick):
        _check_id("user_id", event.user_id)
    if isinstance(event, Action):
        _check_id("item_id", event.item_id)
        _check_id("action", event.action)
    if isinstance(event, Action | Impression) and event.request_id is not None:
        _check_id("request_id", event.request_id)


def _check_items(items: Sequence[str]) -> None:
    for item in items:
        _check_id("items", item)


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidEventError("wrong_type", f"{name} must be text, got {value!r:.64}")
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidEventError("wrong_type", f"{name} must be text that UTF-8 can hold: {error.reason}") from error
    if not 1 <= size <= MAX_ID_BYTES:
        raise InvalidEventError("id_length", f"{name} must be 1 to {MAX_ID_BYTES} bytes of UTF-8, got {size}")


def _check_features(name: str, features: Mapping[str, Feature], least: int) -> None:
    if not least <= len(features) <= MAX_FEATURES:
        raise InvalidEventError("out_of_range", f"{name} must hold {least} to {MAX_FEATURES}, got {len(features)}")
    for feature, value in features.items():
        _check_id(f"names in {name}", feature)
        if not isinstance(value, str):
            _check_finite(value)


def _check_finite(number: float) -> None:
    if not isinstance(number, int | float):
        raise InvalidEventError("wrong_type", f"expected a number, got {number!r:.64}")
    if isinstance(number, int):
        if not -(2**63) <= number < 2**63:
            raise InvalidEventError("out_of_range", f"integers must fit 64 bits, got one of {number.bit_length()} bits")
    elif not math.isfinite(number):
        raise InvalidEventError("not_finite", f"numbers must be finite, got {number}")
