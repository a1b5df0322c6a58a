"""One topic of others, forwarded into `events`; the docstring of `ingress.py` says how and what if it dies."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from storage.changes import Refused
from storage.errors import HeadwaterError
from streams.bulk import BulkRecord, BulkSender
from streams.chunk_app import Membership, chunk_app, chunk_consumer, run_app
from streams.chunks import Chunk
from streams.dead_letters import refuse, source_headers
from streams.events import InvalidEventError, Kind, decode_value, encoding_of
from streams.faults import Ending, exit_now
from streams.forwarding import ORIGIN, forwarded
from streams.ingress_metrics import IngressMetrics
from streams.ingress_settings import IngressSettings
from streams.kafka_settings import KafkaSettings
from streams.partitioning import partitions_of
from streams.source_positions import SourcePositions
from streams.topics import TopicSettings
from streams.watchdog import Watchdog

RETRY_SECONDS = 1.0
"""Pause after the brokers did not take a chunk."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where records go, and what is let in."""

    topics: TopicSettings
    num_partitions: int
    """Of `events`."""
    num_letter_partitions: int
    """Of the topic of dead letters."""
    actions: frozenset[str]
    """Known action names."""


class Forwarder:
    """A Faust app and agent that forwards one topic."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        kind: Kind,
        destination: Destination,
        settings: IngressSettings,
        metrics: IngressMetrics,
        producer: AIOKafkaProducer,
        ending: Ending,
        folder: Path,
    ) -> None:
        self.topic = topic
        self.kind = kind
        self._kafka = kafka
        self._destination = destination
        self._settings = settings
        self._metrics = metrics
        self._producer = producer
        self._ending = ending
        self._positions = SourcePositions(kafka, topic, settings.start, ending)
        membership = Membership(
            group=f"{kafka.group}-ingress-{kind}",
            session_seconds=settings.session_seconds,
            instance_id=settings.instance_id,
        )
        self.app = chunk_app(kafka, membership, self._positions, self._forward, folder=folder / kind, web_enabled=False)

    async def run(self) -> None:
        """Forward until something ends it; raises the `HeadwaterError` that ended it."""
        await run_app(self.app, self._ending, self._watch(), close=self._close)

    async def _forward(self, chunks: faust.StreamT[Any]) -> None:
        async for chunk in chunks:
            try:
                await self._take(chunk)
            except HeadwaterError as error:
                self._ending.fail(error)
            except Exception as error:
                exit_now(f"offsets {chunk.start} to {chunk.last} of {self.topic}[{chunk.partition}]", error)

    async def _take(self, chunk: Chunk) -> None:
        begin = self._positions.next_offset(chunk.partition)
        if begin is None:
            return
        if chunk.start > begin:
            logger.warning("%s[%d] lacks %d to %d; reading again", self.topic, chunk.partition, begin, chunk.start - 1)
            self._metrics.holes.labels(self.topic).inc()
            chunk_consumer(self.app).seek_later(chunk.partition)
            return
        # Step 1.
        events, letters = self._decode(chunk.partition, [each for each in chunk.records if each.offset >= begin])
        # Step 2.
        await self._send(events, letters)
        # Step 3.
        self._positions.forwarded(chunk)
        self._metrics.count(self.topic, len(events), [refused for _, refused in letters])

    def _decode(
        self, partition: int, records: Sequence[Any]
    ) -> tuple[list[BulkRecord], list[tuple[BulkRecord, Refused]]]:
        keys, values, origins, letters = [], [], [], []
        for record in records:
            try:
                event = decode_value(record.value, record.timestamp, self._destination.actions, self.kind)
                key, value = forwarded(
                    event,
                    event_id=f"{self._positions.topic_id}-{partition}-{record.offset}",
                    encoding=encoding_of(record.value),
                )
            except InvalidEventError as error:
                refused = refuse(record, error)
                letters.append((self._letter(partition, refused), refused))
            else:
                keys.append(key)
                values.append(value)
                origins.append((ORIGIN, f"{self.topic}-{partition}-{record.offset}".encode()))
        places = partitions_of(keys, self._destination.num_partitions)
        events = [
            BulkRecord(place, key, value, (origin,))
            for place, key, value, origin in zip(places, keys, values, origins, strict=True)
        ]
        return events, letters

    def _letter(self, partition: int, refused: Refused) -> BulkRecord:
        headers = source_headers(self.topic, partition, refused, self._positions.topic_id)
        return BulkRecord(partition % self._destination.num_letter_partitions, refused.key, refused.head, headers)

    async def _send(self, events: Sequence[BulkRecord], letters: Sequence[tuple[BulkRecord, Refused]]) -> None:
        topics = self._destination.topics
        while True:
            try:
                for topic, records in ((topics.events, events), (topics.dead_letters, [each for each, _ in letters])):
                    sender = BulkSender(self._producer, topic)
                    await sender.send(records)
                    await sender.flush()
            except (KafkaError, OSError) as error:
                logger.warning("%s waits for Kafka: %s", self.topic, error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _watch(self) -> None:
        consumer = chunk_consumer(self.app)
        await Watchdog(consumer, self._positions, self._kafka, self._settings.watchdog_seconds).run()

    async def _close(self) -> None:
        """Nothing is left open: the producer is that of all forwarders."""
