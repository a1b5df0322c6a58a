"""Sends what a partition's outbox holds: samples to `samples`, dead letters to `events.dlq`, in the log's order.

1. Take the oldest items of the outbox.
2. Build their bodies from the sequences as of their positions; pass over what is no longer due, as its user was
   forgotten meanwhile.
3. Send the samples as one batch and the dead letters as one batch, and wait until the brokers have them.
4. Delete the items from the outbox.

A batch arrives whole or not at all, and the next one is sent after it has arrived. So whoever keeps only the highest
sample id of each log of a partition loses none: everything before an id that arrived has arrived, too.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import (  # type: ignore[import-untyped]  # as above
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from storage.changes import ForgetRef, Refused, SampleRef
from storage.entries import unpack_position
from storage.errors import SetupError
from storage.keys import OutboxKey
from storage.outbox import Outgoing
from storage.sequence_store import SequenceStore
from streams.dead_letters import source_headers
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.sampling import build_forgotten, build_samples
from streams.topics import TopicSettings
from streams.worker_metrics import WorkerMetrics

FIRST_ITEMS = 16
"""Items taken at first; from then on, as many as the last ones' size says that fit a batch."""
MAX_ITEMS = 256
"""Most items taken at once."""
MAX_BATCH_BYTES = 512 * 1024
"""Largest batch of several records; one record may be larger."""
BUILDING_SECONDS = 0.002
"""How long samples are built before chunks that wait go first: what is fresh is seen before it is learned."""
FIRST_PAUSE_SECONDS = 0.2
LAST_PAUSE_SECONDS = 5.0

logger = logging.getLogger(__name__)


def outbox_producer(kafka: KafkaSettings) -> AIOKafkaProducer:
    """A producer for `OutboxSender`, not started."""
    # Not idempotent: one batch is under way at a time, and what is sent twice is told by its id.
    return AIOKafkaProducer(
        **client_options(kafka),
        acks="all",
        max_batch_size=MAX_BATCH_BYTES,
        request_timeout_ms=int(kafka.connect_seconds * 1000),
    )


class OutboxSender:
    """Empties one store's outbox for as long as `run` runs."""

    def __init__(
        self,
        store: SequenceStore,
        producer: AIOKafkaProducer,
        *,
        topics: TopicSettings,
        sample_events: int,
        metrics: WorkerMetrics,
    ) -> None:
        self._store = store
        self._producer = producer
        self._topics = topics
        self._sample_events = sample_events
        self._metrics = metrics
        self._filled = asyncio.Event()
        self._num_items = FIRST_ITEMS

    def wake(self) -> None:
        """Say that the outbox may hold something new."""
        self._filled.set()

    async def run(self) -> None:
        """Send until cancelled; raises `SetupError` for what will not pass by itself."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            self._filled.clear()
            try:
                sent = await self._send_some()
            except (MessageSizeTooLargeError, TopicAuthorizationFailedError) as error:
                raise SetupError(f"{self._topics.samples} does not take what is sent: {error}") from error
            except (KafkaError, OSError) as error:
                number = self._store.partition
                logger.warning("outbox of partition %d waits for Kafka: %s", number, error, extra={"partition": number})
                await asyncio.sleep(pause)
                pause = min(LAST_PAUSE_SECONDS, pause * 2)
                continue
            pause = FIRST_PAUSE_SECONDS
            if not sent:
                await self._filled.wait()

    async def _send_some(self) -> int:
        # Step 1.
        items = self._store.outbox(self._num_items)
        if not items:
            return 0
        # Step 2.
        samples = await self._samples(items)
        items = [(key, item) for key, item in items if self._store.is_due(key)]
        if not items:
            return 1  # what had them forgotten is in the outbox now
        topics = (self._topics.samples, self._topics.dead_letters)
        batches = {topic: self._producer.create_batch() for topic in topics}
        filled = self._fill(batches, items, samples)
        # What is built and does not fit is built again for the next batch.
        num_bytes = max(batch.size() for batch in batches.values())
        self._num_items = max(1, min(MAX_ITEMS, len(filled) * MAX_BATCH_BYTES // num_bytes))
        # Step 3.
        arrivals = [await self._send(topic, batch) for topic, batch in batches.items() if batch.record_count()]
        await asyncio.gather(*arrivals)
        # Step 4.
        self._store.acknowledge(key for key, _ in filled)
        self._count(filled)
        return len(filled)

    async def _samples(self, items: Sequence[tuple[OutboxKey, Outgoing]]) -> dict[OutboxKey, bytes]:
        by_user: dict[str, list[tuple[OutboxKey, SampleRef]]] = {}
        for key, item in items:
            if isinstance(item, SampleRef):
                by_user.setdefault(item.user_id, []).append((key, item))
        samples = {key: build_forgotten(self._store, key, item) for key, item in items if isinstance(item, ForgetRef)}
        started = time.monotonic()
        for listed in by_user.values():
            due = [(key, ref) for key, ref in listed if self._store.is_due(key)]
            if not due:
                continue
            built = build_samples(self._store, due, self._sample_events)
            samples.update((key, sample) for (key, _), sample in zip(due, built, strict=True))
            if time.monotonic() - started > BUILDING_SECONDS:
                await asyncio.sleep(0)
                started = time.monotonic()
        return samples

    def _fill(
        self,
        batches: Mapping[str, Any],
        items: Sequence[tuple[OutboxKey, Outgoing]],
        samples: Mapping[OutboxKey, bytes],
    ) -> list[tuple[OutboxKey, Outgoing]]:
        filled = []
        for key, item in items:
            if isinstance(item, SampleRef | ForgetRef):
                batch = batches[self._topics.samples]
                taken = batch.append(
                    timestamp=None,
                    key=item.user_id.encode(),
                    value=samples[key],
                    headers=[("id", self._sample_id(key))],
                )
            else:
                batch = batches[self._topics.dead_letters]
                log_id = self._store.topic_id_at(key.position)
                headers = source_headers(self._topics.events, self._store.partition, item, log_id)
                taken = batch.append(timestamp=None, key=item.key, value=item.head, headers=headers)
            if taken is None:
                break
            filled.append((key, item))
        return filled

    def _sample_id(self, key: OutboxKey) -> bytes:
        epoch, offset = unpack_position(key.position)
        return f"{epoch}-{self._store.partition}-{offset}-{key.n}".encode()

    async def _send(self, topic: str, batch: Any) -> asyncio.Future[Any]:
        arrival: asyncio.Future[Any] = await self._producer.send_batch(batch, topic, partition=self._store.partition)
        return arrival

    def _count(self, sent: Sequence[tuple[OutboxKey, Outgoing]]) -> None:
        for _, item in sent:
            if isinstance(item, Refused):
                self._metrics.dead_letters.labels(item.cause).inc()
            elif isinstance(item, SampleRef):
                self._metrics.samples.inc()
