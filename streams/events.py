"""The events that flow through the topic `events`: types, limits, JSON.

One tagged union, one topic, keyed by user. Fields that this version does not know are ignored, so that producers may
be newer than workers; a field may be added with a default, never removed or given another meaning; anything else
raises `SCHEMA_VERSION`, and a record of a higher version than ours is refused.
"""

import math
import re
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

Time = Annotated[int, Meta(ge=0, le=MAX_TIME_MS, description="milliseconds since 1970, UTC")]
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES, description="1 to 256 bytes of UTF-8")]
Version = Annotated[int, Meta(ge=1, description="schema version")]
Feature = str | int | float | bool


class InvalidEventError(ValueError):
    """A record that is no valid event; `cause` is its kind."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    event_id: Id
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


class Tick(_Event, frozen=True, kw_only=True, tag="tick"):
    """Time passed in a partition without other records; appended by the partition's owner, without a key."""


Event: TypeAlias = Impression | Action | UserUpdate | Tick

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Impression | Action | UserUpdate | Tick)
_NOT_FINITE = re.compile(rb"[:\[,]\s*-?(NaN|Infinity)\b")
_MESSAGE_CAUSES: tuple[tuple[str, Cause], ...] = (
    ("missing required field", "missing_field"),
    ("Invalid value", "unknown_type"),
    ("$.items` of length", "items_length"),
    ("Number out of range", "out_of_range"),
    ("`int` <=", "out_of_range"),
    ("`int` >=", "out_of_range"),
    ("`array` of length", "items_length"),
    ("`str` of length", "id_length"),
    ("`object` of length", "out_of_range"),
)


def encode_event(event: Event) -> bytes:
    """The event as JSON.

    >>> encode_event(Tick(event_id="t1", ts_ms=5))
    b'{"type":"tick","event_id":"t1","ts_ms":5}'
    """
    return _encoder.encode(event)


def check_event(event: Event) -> None:
    """Raise `InvalidEventError` for what the types alone cannot say: bytes of ids, finite numbers, version."""
    if event.v > SCHEMA_VERSION:
        raise InvalidEventError(
            "unknown_version", f"v must be <= {SCHEMA_VERSION}, got {event.v}: upgrade the workers first"
        )
    for name, value in _ids(event):
        size = len(value.encode("utf-8", "surrogatepass"))
        if not 1 <= size <= MAX_ID_BYTES:
            raise InvalidEventError("id_length", f"{name} must be 1 to {MAX_ID_BYTES} bytes of UTF-8, got {size}")
    if isinstance(event, Impression) and not 1 <= len(event.items) <= MAX_ITEMS:
        raise InvalidEventError("items_length", f"items must hold 1 to {MAX_ITEMS} ids, got {len(event.items)}")
    for number in _numbers(event):
        if not math.isfinite(number):
            raise InvalidEventError("not_finite", f"numbers must be finite, got {number}")
        if isinstance(number, int) and not -(2**63) <= number < 2**63:
            raise InvalidEventError("out_of_range", f"integers must fit 64 bits, got {str(number)[:64]}")
    if not 0 <= event.ts_ms <= MAX_TIME_MS:
        raise InvalidEventError("out_of_range", f"ts_ms must be 0 to {MAX_TIME_MS}, got {event.ts_ms}")


def decode_event(key: bytes | None, value: bytes | None, kafka_ms: int, actions: frozenset[str]) -> Event:
    """Read one record of the topic `events`.

    `kafka_ms` is the record's Kafka timestamp: an event may lie at most an hour after it. `actions` are the known
    action names. Raises `InvalidEventError`.
    """
    if value is None or len(value) > MAX_EVENT_BYTES:
        size = 0 if value is None else len(value)
        cause: Cause = "too_large" if size else "malformed_json"
        raise InvalidEventError(cause, f"value must be 1 to {MAX_EVENT_BYTES} bytes, got {size}")
    event = _decode(value)
    check_event(event)
    if event.ts_ms > kafka_ms + MAX_FUTURE_MS:
        raise InvalidEventError(
            "future_time", f"ts_ms {event.ts_ms} is over an hour after the record's time {kafka_ms}"
        )
    if not isinstance(event, Tick):
        if not key:
            raise InvalidEventError("empty_key", "key must be the user id, got an empty key")
        if key != event.user_id.encode():
            raise InvalidEventError("wrong_key", f"key must equal user_id, got {key[:64]!r} for {event.user_id[:64]!r}")
    if isinstance(event, Action) and event.action not in actions:
        known = ", ".join(sorted(actions))
        raise InvalidEventError("unknown_action", f"action must be one of {known}, got {event.action!r}")
    return event


def event_schema() -> dict[str, Any]:
    """JSON Schema of a record's value."""
    (schema,), components = msgspec.json.schema_components((Event,), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headwater event",
        "version": SCHEMA_VERSION,
        **schema,
        "$defs": components,
    }


def _decode(value: bytes) -> Event:
    try:
        return _decoder.decode(value)
    except msgspec.ValidationError as error:
        message = str(error)
        raise InvalidEventError(_cause(message), message) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEventError("not_finite" if _NOT_FINITE.search(value) else "malformed_json", str(error)) from error


def _cause(message: str) -> Cause:
    return next((cause for part, cause in _MESSAGE_CAUSES if part in message), "wrong_type")


def _ids(event: Event) -> list[tuple[str, str]]:
    named = [(name, getattr(event, name, None)) for name in ("event_id", "user_id", "item_id", "request_id")]
    ids = [(name, value) for name, value in named if value is not None]
    if isinstance(event, Impression):
        ids += [("items", item) for item in event.items]
    return ids


def _numbers(event: Event) -> list[float]:
    if isinstance(event, Action):
        return [] if event.value is None else [event.value]
    features = event.context if isinstance(event, Impression) else getattr(event, "features", {})
    return [value for value in features.values() if isinstance(value, int | float)]
