"""The client that sends events; it imports nothing of Headwater but the event types."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from threading import Lock
from types import TracebackType
from typing import Any, TypeAlias

import msgspec
from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types

from streams.events import MAX_EVENT_BYTES, Event, InvalidEventError, Tick, check_event, encode_event

FLUSH_SECONDS = 60.0
"""How long `flush` and `close` wait for the broker unless they are told otherwise."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker put an event."""

    partition: int
    offset: int


class DeliveryCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events so far; `sent - delivered - failed` are on their way."""

    sent: int
    delivered: int
    failed: int


OnDelivery: TypeAlias = Callable[[Event, Delivery | Exception], None]
"""Told of each event's end, on the producer's own thread: where it is, or why it is nowhere."""


class EventProducer:
    """Sends events to the topic `events`, keyed by user, acknowledged by all replicas, in order per user.

    >>> with EventProducer(["127.0.0.1:9092"]) as producer:         # doctest: +SKIP
    ...     producer.send(Action(event_id="e1", user_id="u1", item_id="50", action="like", ts_ms=0))
    """

    def __init__(
        self,
        bootstrap_servers: Sequence[str],
        *,
        topic: str = "events",
        security: Mapping[str, Any] | None = None,
        on_delivery: OnDelivery | None = None,
        connect_seconds: float = 10.0,
        linger_ms: int = 5,
    ) -> None:
        """Connect; raises `kafka.errors.KafkaError` where no broker answers within `connect_seconds`.

        `security` holds the arguments of kafka-python that say who we are: `security_protocol`, `ssl_*`, `sasl_*`.
        """
        self.topic = topic
        self.on_delivery = on_delivery
        self._lock = Lock()
        self._sent = self._delivered = self._failed = 0
        self._producer = KafkaProducer(
            bootstrap_servers=list(bootstrap_servers),
            **(security or {}),
            bootstrap_timeout_ms=int(connect_seconds * 1000),
            linger_ms=linger_ms,
            batch_size=64 * 1024,
        )

    @property
    def counts(self) -> DeliveryCounts:
        """What became of the events so far."""
        with self._lock:
            return DeliveryCounts(sent=self._sent, delivered=self._delivered, failed=self._failed)

    def send(self, event: Event) -> Future[Delivery]:
        """Queue an event and return its delivery to come.

        Raises `InvalidEventError`, a `ValueError`, before anything is sent, and the broker's error where the
        topic does not answer.
        """
        value = _checked(event)
        key = None if isinstance(event, Tick) else event.user_id.encode()
        delivery: Future[Delivery] = Future()
        queued = self._producer.send(self.topic, key=key, value=value)
        with self._lock:
            self._sent += 1
        queued.add_callback(self._on_success, event, delivery)
        queued.add_errback(self._on_failure, event, delivery)
        return delivery

    def flush(self, timeout_seconds: float = FLUSH_SECONDS) -> None:
        """Wait until everything sent so far is delivered or has failed; raises `kafka.errors.KafkaError`."""
        self._producer.flush(timeout=timeout_seconds)

    def close(self, timeout_seconds: float = FLUSH_SECONDS) -> None:
        """Flush and disconnect."""
        try:
            self.flush(timeout_seconds)
        finally:
            self._producer.close(timeout=timeout_seconds)

    def __enter__(self) -> "EventProducer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _on_success(self, event: Event, delivery: Future[Delivery], metadata: Any) -> None:
        result = Delivery(partition=metadata.partition, offset=metadata.offset)
        with self._lock:
            self._delivered += 1
        delivery.set_result(result)
        if self.on_delivery is not None:
            self.on_delivery(event, result)

    def _on_failure(self, event: Event, delivery: Future[Delivery], error: Exception) -> None:
        with self._lock:
            self._failed += 1
        delivery.set_exception(error)
        if self.on_delivery is not None:
            self.on_delivery(event, error)


def _checked(event: Event) -> bytes:
    check_event(event)
    value = encode_event(event)
    if len(value) > MAX_EVENT_BYTES:
        raise InvalidEventError("too_large", f"an event must be at most {MAX_EVENT_BYTES} bytes, got {len(value)}")
    return value
