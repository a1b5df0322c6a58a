"""What a chunk of the log asks the store to do, in terms that know nothing of Kafka or JSON."""

from typing import ClassVar, TypeAlias

import msgspec

Feature: TypeAlias = str | int | float | bool


class Exposed(msgspec.Struct, frozen=True, gc=False):
    """Items were shown to a user."""

    offset: int
    user_id: str
    ts_ms: int
    kafka_ms: int
    item_ids: list[str]
    request_id: str | None = None
    event_id: str | None = None

    action: ClassVar[int] = -1
    value: ClassVar[float | None] = None


class Acted(msgspec.Struct, frozen=True, gc=False):
    """A user acted on an item."""

    offset: int
    user_id: str
    ts_ms: int
    kafka_ms: int
    item_id: str
    action: int
    """Index into the settings' actions."""
    value: float | None = None
    request_id: str | None = None
    event_id: str | None = None


class Updated(msgspec.Struct, frozen=True, gc=False):
    """Features of a user changed."""

    offset: int
    user_id: str
    ts_ms: int
    features: dict[str, Feature]


class Ticked(msgspec.Struct, frozen=True, gc=False):
    """Time passed in a partition without other records."""

    offset: int
    ts_ms: int


class Forgot(msgspec.Struct, frozen=True, gc=False):
    """A user is to be forgotten."""

    offset: int
    user_id: str


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="dead_letter"):
    """A record that is no valid event; it leaves through the outbox for the dead-letter topic."""

    offset: int
    kafka_ms: int
    cause: str
    message: str
    key: bytes
    """First bytes of the record's key."""
    head: bytes
    """First bytes of the record's value."""
    size: int
    """Bytes of the whole value."""
    sha256: str


Change: TypeAlias = Exposed | Acted | Updated | Ticked | Forgot | Refused


class SampleRef(msgspec.Struct, frozen=True, kw_only=True, tag="sample"):
    """A due sample, by reference; its body is built when it is sent."""

    user_id: str
    since: int
    """Position of the user's previous trigger; -1 for the first."""
    num_records: int
    """Rows that were pending: exposures and actions in the range (since, trigger]."""


class ForgetRef(msgspec.Struct, frozen=True, kw_only=True, tag="forget"):
    """Word for those who learn that a user was forgotten."""

    user_id: str
