"""Many records sent fast: batches are built here, per partition, and handed to aiokafka whole.

A client that takes records one by one spends 50 microseconds on each; a batch costs it no more, whatever it holds.
A partition has one batch under way and one waiting at most, the next is built meanwhile. So memory is bounded, and a
batch that is sent again cannot overtake: order per partition, and with it per user, is that of the calls.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from storage.errors import SetupError
from streams.events import Encoding, Event, InvalidEventError, Tick, checked_value
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.partitioning import partitions_of
from streams.producer import DeliveryCounts
from streams.topics import existing_topic

BATCH_BYTES = 256 * 1024
"""Largest batch of several records; one record may be larger."""
BLOCK_RECORDS = 2_000
"""Events that are encoded and partitioned at a time."""
DELIVERY_SECONDS = 60.0
"""How long a batch is tried to be sent."""

Headers = Sequence[tuple[str, bytes]]


class BulkRecord(NamedTuple):
    """A record on its way to a partition."""

    partition: int
    key: bytes | None
    value: bytes
    headers: Headers = ()


def bulk_producer(kafka: KafkaSettings) -> AIOKafkaProducer:
    """A producer for `BulkSender`, not started."""
    # Not idempotent, which the embedded broker does not know: what is sent twice is told by event id or nature.
    return AIOKafkaProducer(
        **client_options(kafka),
        acks="all",
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=int(DELIVERY_SECONDS * 1000),
    )


class BulkSender:
    """Sends records to the partitions of one topic; to be used by one task."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self.topic = topic
        self._producer = producer
        self._open: dict[int, Any] = {}
        self._under_way: set[asyncio.Future[Any]] = set()
        self._sent = self._delivered = self._failed = 0
        self._error: BaseException | None = None

    @property
    def counts(self) -> DeliveryCounts:
        """What became of the records so far; those of batches that are still being built count as sent."""
        return DeliveryCounts(sent=self._sent, delivered=self._delivered, failed=self._failed)

    async def send(self, records: Iterable[BulkRecord]) -> None:
        """Take records, waiting where the brokers are slower; raises the `KafkaError` of a batch that failed."""
        for record in records:
            if not self._append(record):
                await self._send(record.partition)
                taken = self._append(record)
                assert taken, "an empty batch takes any record"
            self._sent += 1

    async def flush(self) -> None:
        """Wait until all is delivered; raises the `KafkaError` of a batch that failed."""
        for partition in list(self._open):
            await self._send(partition)
        if self._under_way:
            await asyncio.wait(self._under_way)
            await asyncio.sleep(0)  # lets `_arrived` count the last ones
        self._raise_failure()

    def _append(self, record: BulkRecord) -> bool:
        batch = self._open.get(record.partition)
        if batch is None:
            batch = self._open[record.partition] = self._producer.create_batch()
        taken = batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))
        return taken is not None

    async def _send(self, partition: int) -> None:
        self._raise_failure()
        batch = self._open.pop(partition)
        num_records = batch.record_count()
        try:
            arrival = await self._producer.send_batch(batch, self.topic, partition=partition)
        except KafkaError:
            self._failed += num_records
            raise
        self._under_way.add(arrival)
        arrival.add_done_callback(lambda done: self._arrived(done, num_records))

    def _arrived(self, arrival: "asyncio.Future[Any]", num_records: int) -> None:
        self._under_way.discard(arrival)
        error = None if arrival.cancelled() else arrival.exception()
        if error is None:
            self._delivered += num_records
        else:
            self._failed += num_records
            self._error = self._error or error

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise self._error


def send_many(
    kafka: KafkaSettings, topic: str, events: Iterable[Event], *, encoding: Encoding = "json"
) -> DeliveryCounts:
    """Send events as fast as the brokers take them; returns once all replicas have all of them.

    A user's events keep their order. Raises `InvalidEventError`, a `ValueError`, at the first event that a worker
    would refuse, and `SetupError` where a batch cannot be delivered for a minute; events before those may have
    arrived, and sending all again changes nothing where they have ids.
    """
    num_partitions = existing_topic(kafka, topic).num_partitions
    try:
        return asyncio.run(_send_many(kafka, topic, num_partitions, iter(events), encoding))
    except (KafkaError, OSError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise SetupError(f"{topic} did not take all events ({detail}); is the broker still there?") from error


async def _send_many(
    kafka: KafkaSettings, topic: str, num_partitions: int, events: Iterator[Event], encoding: Encoding
) -> DeliveryCounts:
    producer = bulk_producer(kafka)
    await producer.start()
    try:
        sender = BulkSender(producer, topic)
        while block := list(islice(events, BLOCK_RECORDS)):
            await sender.send(bulk_records(block, num_partitions, encoding))
        await sender.flush()
    finally:
        await producer.stop()
    return sender.counts


def bulk_records(events: Sequence[Event], num_partitions: int, encoding: Encoding = "json") -> Iterator[BulkRecord]:
    """The events' records, keyed and placed by user; raises `InvalidEventError` for what a worker would refuse."""
    keys = [_user_of(event) for event in events]
    for event, key, partition in zip(events, keys, partitions_of(keys, num_partitions), strict=True):
        yield BulkRecord(partition, key, checked_value(event, encoding))


def _user_of(event: Event) -> bytes:
    if isinstance(event, Tick):
        raise InvalidEventError("empty_key", "a tick belongs to a partition and to no user: the workers append them")
    return event.user_id.encode()
