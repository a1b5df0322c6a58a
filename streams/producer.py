"""The client that sends events; it imports nothing of Headwater but the event types."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from threading import Condition
from types import TracebackType
from typing import Any, TypeAlias

import msgspec
from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types

from streams.events import MAX_EVENT_BYTES, Encoding, Event, Forget, Tick, checked_value

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
"""Told of each event's end, on the producer's own thread, where it must not send: where it is, or why it is nowhere."""


class ProducerFullError(TimeoutError):
    """The brokers took none of what waits for too long; the event was not sent and can be sent again."""


class EventProducer:
    """Sends events to the topic `events`, keyed by user, acknowledged by all replicas, in order per user.

    What is sent again after a broker did not answer is dropped by the broker where it has arrived (idempotence).

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
        encoding: Encoding = "json",
        max_in_flight: int = 10_000,
        max_in_flight_bytes: int = 32 * 1024 * 1024,
        block_seconds: float = 60.0,
    ) -> None:
        """Connect; raises `kafka.errors.KafkaError` where no broker answers within `connect_seconds`.

        `security` holds the arguments of kafka-python that say who we are: `security_protocol`, `ssl_*`, `sasl_*`.
        So many events, and so many bytes of their values, can be on their way at a time; beyond that `send` blocks,
        at most for `block_seconds`.
        """
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be >= 1 event, got {max_in_flight}")
        if max_in_flight_bytes < MAX_EVENT_BYTES:
            raise ValueError(f"max_in_flight_bytes must be >= {MAX_EVENT_BYTES}, one event, got {max_in_flight_bytes}")
        if not block_seconds >= 0:
            raise ValueError(f"block_seconds must be >= 0, got {block_seconds}")
        self.topic = topic
        self.on_delivery = on_delivery
        self.encoding = encoding
        self.max_in_flight = max_in_flight
        self.max_in_flight_bytes = max_in_flight_bytes
        self.block_seconds = block_seconds
        self._room = Condition()
        self._sent = self._delivered = self._failed = self._bytes = 0
        self._producer = KafkaProducer(
            bootstrap_servers=list(bootstrap_servers),
            **(security or {}),
            bootstrap_timeout_ms=int(connect_seconds * 1000),
            acks="all",
            enable_idempotence=True,
            linger_ms=linger_ms,
            batch_size=64 * 1024,
        )

    @property
    def counts(self) -> DeliveryCounts:
        """What became of the events so far."""
        with self._room:
            return DeliveryCounts(sent=self._sent, delivered=self._delivered, failed=self._failed)

    def send(self, event: Event) -> Future[Delivery]:
        """Queue an event and return its delivery to come.

        Raises `InvalidEventError`, a `ValueError`, before anything is sent, `ProducerFullError` where there was no
        room for it, and the broker's error where the topic does not answer.
        """
        value = checked_value(event, self.encoding)
        key = None if isinstance(event, Tick) else event.user_id.encode()
        delivery: Future[Delivery] = Future()
        self._take_room(len(value))
        try:
            queued = self._producer.send(self.topic, key=key, value=value)
        except BaseException:
            self._give_room(len(value), sent=-1)
            raise
        queued.add_callback(self._on_success, event, len(value), delivery)
        queued.add_errback(self._on_failure, event, len(value), delivery)
        return delivery

    def forget_user(self, user_id: str, *, event_id: str | None = None) -> Future[Delivery]:
        """Ask that all be forgotten that came of a user before; raises as `send` does.

        What is sent of the user after this begins a new sequence; a second request has that forgotten, too.
        """
        return self.send(Forget(user_id=user_id, ts_ms=time.time_ns() // 1_000_000, event_id=event_id))

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

    def _take_room(self, size: int) -> None:
        with self._room:
            if not self._room.wait_for(lambda: self._has_room(size), self.block_seconds):
                waiting = self._sent - self._delivered - self._failed
                raise ProducerFullError(
                    f"{waiting} events ({self._bytes} bytes) are on their way to {self.topic} and none arrived for "
                    f"{self.block_seconds:g} s; are the brokers there, and fast enough?"
                )
            self._sent += 1
            self._bytes += size

    def _has_room(self, size: int) -> bool:
        waiting = self._sent - self._delivered - self._failed
        return waiting < self.max_in_flight and self._bytes + size <= self.max_in_flight_bytes

    def _give_room(self, size: int, *, sent: int = 0, delivered: int = 0, failed: int = 0) -> None:
        with self._room:
            self._bytes -= size
            self._sent += sent
            self._delivered += delivered
            self._failed += failed
            self._room.notify_all()

    def _on_success(self, event: Event, size: int, delivery: Future[Delivery], metadata: Any) -> None:
        result = Delivery(partition=metadata.partition, offset=metadata.offset)
        self._give_room(size, delivered=1)
        delivery.set_result(result)
        if self.on_delivery is not None:
            self.on_delivery(event, result)

    def _on_failure(self, event: Event, size: int, delivery: Future[Delivery], error: Exception) -> None:
        self._give_room(size, failed=1)
        delivery.set_exception(error)
        if self.on_delivery is not None:
            self.on_delivery(event, error)
