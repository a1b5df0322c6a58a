"""The stream worker: a Faust app that keeps the users' sequences and sends the samples that become due.

For each chunk of records:

1. Decode each record by itself; one that is no valid event becomes a dead letter, the rest go on.
2. Apply all of them in one write batch: entries, due samples and dead letters in the outbox, the last offset.
3. Wake the partition's outbox sender.

The README of this folder says what happens where the process dies after each step.
"""

import asyncio
import logging
import socket
import ssl
import time
from typing import Any

import faust
import numpy as np
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # aiokafka ships no types
from faust.sensors.prometheus import setup_prometheus_sensors

from storage.changes import Change, Refused
from storage.errors import HeadwaterError, LogHoleError, SetupError
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from storage.user_run import Applied
from streams.chunk_app import Membership, chunk_app, chunk_consumer, end_on_signals, run_app
from streams.chunks import Chunk, ChunkConsumer
from streams.decoding import ChunkDecoder
from streams.faults import Ending, exit_now
from streams.garbage import collect_rarely, give_back_memory
from streams.http_access import server_context
from streams.kafka_settings import KafkaSettings
from streams.log_retention import RetentionWatch, check_retention, retention_seconds
from streams.outbox_sender import OutboxSender, outbox_producer
from streams.partition_metrics import PartitionMetrics
from streams.partitions import Partitions
from streams.quiet import limit_aiokafka_logs
from streams.standby import stand_by
from streams.static_member import StaticMember
from streams.ticks import Ticker
from streams.topics import TopicSettings, describe_topic
from streams.views import Views
from streams.warm_up import warm_up
from streams.watchdog import Watchdog
from streams.worker_access import token_check
from streams.worker_metrics import WorkerMetrics
from streams.worker_settings import WorkerSettings

__all__ = ["Worker", "WorkerSettings", "run_worker"]

REVOKED_SECONDS = 2.0
"""How long the group waits for the checkpoints of a rebalance; those not made by then are made during it."""
FULL_SECONDS = 0.05
"""Pause before a full outbox is looked at again."""
SHIP_SECONDS = 5.0
"""How long stopping waits for the last checkpoints to be shipped."""

logger = logging.getLogger(__name__)


def run_worker(kafka: KafkaSettings, topics: TopicSettings, store: StoreSettings, worker: WorkerSettings) -> int:
    """Run a worker until SIGTERM or SIGINT and return its exit status.

    Raises `HeadwaterError` where the setup or the state cannot be used: no broker, no topic, a port in use, state
    of other settings, records that expired unread. Ends the process with status 70 where nothing else is left.
    """
    _check_setup(kafka, topics, worker)
    warm_up(store.actions)
    give_back_memory()
    collect_rarely()
    return asyncio.run(_run(kafka, topics, store, worker))


class Worker:
    """One worker on the running event loop."""

    def __init__(
        self, kafka: KafkaSettings, topics: TopicSettings, store: StoreSettings, worker: WorkerSettings
    ) -> None:
        self.kafka = kafka
        self.topics = topics
        self.settings = worker
        self.ending = Ending()
        self.metrics = WorkerMetrics()
        self.partitions = Partitions(
            kafka=kafka,
            topics=topics,
            store=store,
            worker=worker,
            new_sender=self._new_sender,
            ending=self.ending,
        )
        self._member = StaticMember(kafka, worker.instance_id)
        self._holds_back = False
        self._decoder = ChunkDecoder(store.actions)
        self._producer: AIOKafkaProducer = outbox_producer(kafka)
        self.app = self._new_app(store)

    async def run(self) -> int:
        """Start, work until something ends it, stop; raises the `HeadwaterError` that ended it."""
        await self._producer.start()
        await run_app(self.app, self.ending, self._checkpoints(), self._watch(), self._tick(), close=self._close)
        return 0

    def apply(self, chunk: Chunk) -> None:
        """Apply one chunk to its partition's store; a hole before it has it read again."""
        started = time.perf_counter()
        # Step 1.
        changes, columns = self._decoder.decode(chunk.records)
        first_new = self.partitions.next_offset(chunk.partition)
        try:
            # Steps 2 and 3.
            applied = self.partitions.apply(chunk, changes, columns)
        except LogHoleError as hole:
            place = {"partition": chunk.partition, "offset": chunk.start}
            logger.warning("%s; reading them again", hole, extra=place)
            self.metrics.holes.inc()
            self.consumer.seek_later(chunk.partition)
        else:
            if applied is not None:
                assert first_new is not None
                self._count(_new_of(chunk, first_new), changes, applied, time.perf_counter() - started)

    @property
    def consumer(self) -> ChunkConsumer:
        """The app's consumer."""
        return chunk_consumer(self.app)

    def _new_app(self, store: StoreSettings) -> faust.App:
        app = chunk_app(
            self.kafka,
            Membership(
                group=self.kafka.group,
                session_seconds=self.settings.session_seconds,
                instance_id=self.settings.instance_id,
            ),
            self.partitions,
            self._sequences,
            folder=store.folder / "faust",
            web_bind=self.settings.web_host,
            web_host=self.settings.web_host,
            web_port=self.settings.web_port,
            web_application_options={"middlewares": [token_check(self.settings.token)]},
            web_ssl_context=self._tls(),
            canonical_url=self.settings.url,
            web_metrics_enabled=True,
        )
        app.on_partitions_assigned.connect(self._on_assigned)
        app.on_partitions_revoked.connect(self._on_revoked)
        self.metrics.registry.register(
            PartitionMetrics(
                lambda: self.partitions.stores,
                lambda partition: self.consumer.lag(partition),
                self.partitions.checkpoint_age_seconds,
            )
        )
        setup_prometheus_sensors(app, registry=self.metrics.registry, name_prefix="faust")
        Views(app, self.partitions, self.metrics, self.settings.access).install()
        return app

    def _tls(self) -> ssl.SSLContext | None:
        certificate, key = self.settings.tls_certificate, self.settings.tls_key
        return server_context(certificate, key) if certificate and key else None

    def _new_sender(self, store: SequenceStore) -> OutboxSender:
        store.prepare_samples(self.settings.sample_events)
        return OutboxSender(
            store,
            self._producer,
            topics=self.topics,
            sample_events=self.settings.sample_events,
            metrics=self.metrics,
        )

    async def _sequences(self, chunks: faust.StreamT[Any]) -> None:
        async for chunk in chunks:
            try:
                await self._room(chunk.partition)
                self.apply(chunk)
            except HeadwaterError as error:
                self.ending.fail(error)
            except Exception as error:
                exit_now(f"offsets {chunk.start} to {chunk.last} of partition {chunk.partition}", error)

    async def _room(self, partition: int) -> None:
        # While this waits, two chunks are buffered and no more is fetched; the group hears from us all the same.
        while self._is_full(partition) and not self.ending.requested:
            self._holds_back = True
            await asyncio.sleep(FULL_SECONDS)
            self.metrics.held_back.inc(FULL_SECONDS)
        self._holds_back = False

    def _is_full(self, partition: int) -> bool:
        store = self.partitions.stores.get(partition)
        return store is not None and store.outbox_size >= self.settings.max_outbox

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        self._member.joined(self.consumer.member_id())

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        try:
            await self._member.check(self.consumer.member_id())
        except SetupError as error:
            self.consumer.drop_instance_id()
            self.ending.fail(error)
        await self.partitions.checkpoint(REVOKED_SECONDS)

    async def _checkpoints(self) -> None:
        retention = RetentionWatch(self.kafka, self.topics.events, self.settings.checkpoint_seconds)
        while True:
            await asyncio.sleep(self.settings.checkpoint_seconds)
            await self.partitions.checkpoint()
            await retention.look(self.partitions.checkpoint_ages)

    async def _watch(self) -> None:
        watchdog = Watchdog(
            self.consumer,
            self.partitions,
            self.kafka,
            self.settings.watchdog_seconds,
            holds_back=lambda: self._holds_back,
        )
        await watchdog.run()

    async def _tick(self) -> None:
        await Ticker(self.consumer, self.partitions, self._producer).run()

    async def _close(self) -> None:
        await self.partitions.checkpoint()
        await self.partitions.ship(SHIP_SECONDS)
        await self.partitions.close()
        await self._producer.stop()

    def _count(self, new: list[Any], changes: list[Change], applied: Applied, seconds: float) -> None:
        causes = _causes(changes, new[0].offset) if applied.refused else []
        self.metrics.count(len(new), applied, causes, seconds)
        times = np.fromiter((record.timestamp for record in new), np.float64, len(new))
        self.metrics.event_to_sequence.observe(np.maximum(0.0, time.time() - times / 1000))


def _new_of(chunk: Chunk, first_new: int) -> list[Any]:
    if chunk.start >= first_new:
        return chunk.records
    return [record for record in chunk.records if record.offset >= first_new]


def _causes(changes: list[Change], first_new: int) -> list[str]:
    return [each.cause for each in changes if isinstance(each, Refused) and each.offset >= first_new]


async def _run(kafka: KafkaSettings, topics: TopicSettings, store: StoreSettings, worker: WorkerSettings) -> int:
    limit_aiokafka_logs()
    if worker.standby:
        if not await stand_by(kafka, topics, store, worker):
            return 0
        logger.warning("the standby takes over")
    running = Worker(kafka, topics, store, worker)
    end_on_signals(running.ending)
    return await running.run()


def _check_setup(kafka: KafkaSettings, topics: TopicSettings, worker: WorkerSettings) -> None:
    found = {name: describe_topic(kafka, name) for name in (topics.events, topics.samples, topics.dead_letters)}
    counts = {name: None if topic is None else topic.num_partitions for name, topic in found.items()}
    absent = [name for name, count in counts.items() if count is None]
    if absent:
        raise SetupError(f"topics do not exist: {', '.join(absent)}; run `headwater topics create`")
    if len(set(counts.values())) > 1:
        named = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise SetupError(f"topics must have equally many partitions, got {named}; make the others anew")
    retention = retention_seconds(kafka, topics.events)
    check_retention(retention, topic=topics.events, checkpoint_seconds=worker.checkpoint_seconds)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((worker.web_host, worker.web_port))
        except OSError as error:
            place = f"port {worker.web_port} on {worker.web_host}"
            raise SetupError(f"worker.web_port: {place} cannot be used ({error.strerror}); choose another") from error
