"""A standby: follows all partitions with stores of its own, outside of the group, and takes a worker's place warm.

It applies the log as a worker does, so its stores are what a worker's are. It sends nothing: what their outboxes hold
is kept until it is seen to have arrived. When it takes over it closes its stores, and a worker over the same folder
joins the group.

1. Follow: apply what comes, prune the outboxes.
2. Asked to take over, or seeing members of the group gone for longer than their session: stop following.
3. Close the stores.
4. Run as a worker.

The README of this folder says what happens where the process dies after each step.
"""

import asyncio
import logging
import math
import signal
import threading
import time
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import KafkaError, OffsetOutOfRangeError  # type: ignore[import-untyped]  # as above

from storage.errors import HeadwaterError, LogHoleError, SetupError
from storage.store_settings import StoreSettings
from streams.arrivals import Arrivals, OutboxPruner
from streams.chunks import FETCH_WAIT_MS, Bounds, Chunk
from streams.decoding import ChunkDecoder
from streams.faults import Ending, exit_now
from streams.group_watch import GroupWatch
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.partitions import Partitions
from streams.topics import TopicSettings, existing_topic
from streams.worker_settings import WorkerSettings

MAX_RECORDS = 2_000
"""Records that are applied at once."""
PLACE_SECONDS = 5.0
"""Pause between two looks at whether the topic is still the same and all stores are open."""
RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Standby:
    """One standby on the running event loop."""

    def __init__(
        self, kafka: KafkaSettings, topics: TopicSettings, store: StoreSettings, worker: WorkerSettings
    ) -> None:
        self.ending = Ending()
        self.taking_over = False
        self._kafka = kafka
        self._topics = topics
        self._worker = worker
        self._arrivals = Arrivals(kafka, topics)
        self.partitions = Partitions(
            kafka=kafka,
            topics=topics,
            store=store,
            # Its state is a copy: checkpoints are made by the owners, and by itself once it is one.
            worker=replace(worker, checkpoint_seconds=math.inf),
            new_sender=lambda opened: OutboxPruner(opened, self._arrivals),
            ending=self.ending,
        )
        self._decoder = ChunkDecoder(store.actions)
        self._next: dict[int, int] = {}
        self._refused: set[int] = set()
        self._placed = -math.inf

    def take_over(self) -> None:
        """Stop following and take a worker's place."""
        self.taking_over = True
        self.ending.request()

    async def run(self) -> bool:
        """Follow until something ends it; whether it shall run as a worker now. Raises the error that ended it."""
        num_partitions = (await asyncio.to_thread(existing_topic, self._kafka, self._topics.events)).num_partitions
        watch = GroupWatch(self._kafka, self._worker.session_seconds, self.take_over)
        work = (self._follow(num_partitions), self._arrivals.run(num_partitions), watch.run())
        tasks = [asyncio.create_task(each) for each in work]
        for task in tasks:
            task.add_done_callback(self._work_ended)
        await self.ending.wait()
        # Step 2.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Step 3.
        await self.partitions.close()
        if self.ending.error is not None:
            raise self.ending.error
        return self.taking_over

    async def _follow(self, num_partitions: int) -> None:
        # Step 1.
        self._consumer = AIOKafkaConsumer(
            **client_options(self._kafka),
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            isolation_level="read_committed",
        )
        try:
            await self._consumer.start()
            partitions = [TopicPartition(self._topics.events, number) for number in range(num_partitions)]
            self._consumer.assign(partitions)
            while True:
                try:
                    if time.monotonic() - self._placed > PLACE_SECONDS or self.partitions.held - self._next.keys():
                        await self._place(partitions)
                    await self._apply_next()
                except OffsetOutOfRangeError as error:
                    self._refused.update(tp.partition for tp in error.args[0])
                    self._placed = -math.inf
                except KafkaError as error:
                    logger.warning("Kafka did not answer, trying again: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._consumer.stop()

    async def _place(self, partitions: list[Any]) -> None:
        earliest = await self._consumer.beginning_offsets(partitions)
        end = await self._consumer.end_offsets(partitions)
        bounds = {
            # The group's commit is not asked for: a standby that has no state begins where the log does, or not at all.
            tp.partition: Bounds(earliest=earliest[tp], end=end[tp], committed=0, refused=tp.partition in self._refused)
            for tp in partitions
        }
        self._refused.clear()
        offsets = await self.partitions.place(bounds)
        self._check_start(bounds)
        for tp in partitions:
            offset = offsets.get(tp.partition)
            if offset is None:
                self._next.pop(tp.partition, None)
                self._consumer.pause(tp)
            elif self._next.get(tp.partition) != offset:
                self._next[tp.partition] = offset
                self._consumer.seek(tp, offset)
                self._consumer.resume(tp)
        self._placed = time.monotonic()
        behind = sum(max(0, bounds[number].end - offset) for number, offset in offsets.items())
        kept = sum(store.outbox_size for store in self.partitions.stores.values())
        logger.info("standby of %d partitions is %d records behind; has %d to send", len(offsets), behind, kept)

    def _check_start(self, bounds: dict[int, Bounds]) -> None:
        if self._worker.start != "latest":
            return
        for number, store in self.partitions.stores.items():
            if store.applied < 0 and bounds[number].end > 0:
                raise SetupError(
                    f"worker.start is latest and partition {number} has no checkpoint: its owner may have begun later "
                    "than a standby can; set worker.checkpoint_url for both, and start this one after the owner's "
                    "first checkpoint"
                )

    async def _apply_next(self) -> None:
        fetched = await self._consumer.getmany(timeout_ms=200, max_records=MAX_RECORDS)
        for tp, records in fetched.items():
            start = self._next.get(tp.partition)
            if start is None:
                continue
            chunk = Chunk(partition=tp.partition, start=start, last=records[-1].offset, records=records)
            try:
                self.partitions.apply(chunk, *self._decoder.decode(records))
            except LogHoleError as hole:
                logger.warning("%s; reading them again", hole)
                self._next.pop(tp.partition)
                self._placed = -math.inf
            else:
                self._next[tp.partition] = chunk.last + 1
            await asyncio.sleep(0)

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.ending.requested:
            return
        error = task.exception()
        if isinstance(error, HeadwaterError):
            self.ending.fail(error)
        else:
            exit_now("its work ended", error)


async def stand_by(kafka: KafkaSettings, topics: TopicSettings, store: StoreSettings, worker: WorkerSettings) -> bool:
    """Follow until SIGUSR1 or missing members say to take over; False where SIGTERM or SIGINT ended it before."""
    standby = Standby(kafka, topics, store, worker)
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, standby.ending.request)
        loop.add_signal_handler(signal.SIGUSR1, standby.take_over)
    return await standby.run()
