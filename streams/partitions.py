"""The source partitions that a worker holds: their stores and outbox senders, opened and closed as they come and go."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from storage.changes import Change
from storage.chunk import Applied
from storage.errors import HeadwaterError, LogHoleError, SetupError, StateError, StateInUseError
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.chunks import Bounds, Chunk
from streams.faults import Ending, exit_now
from streams.kafka_settings import KafkaSettings
from streams.outbox_sender import OutboxSender
from streams.topics import TopicDescription, TopicSettings, describe_topic
from streams.worker_settings import WorkerSettings

IN_USE_SECONDS = 15.0
"""How long a state folder may stay in another worker's use after its partition has come to this one."""
RETRY_SECONDS = 0.2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition that is held."""

    store: SequenceStore
    sender: OutboxSender
    sending: asyncio.Task[None]


class Partitions:
    """The partitions of `events` held by this worker; says where reading goes on in each."""

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        topics: TopicSettings,
        store: StoreSettings,
        worker: WorkerSettings,
        new_sender: Callable[[SequenceStore], OutboxSender],
        ending: Ending,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._store_settings = store
        self._worker = worker
        self._new_sender = new_sender
        self._ending = ending
        self._held: dict[int, Partition] = {}
        self.description = TopicDescription(topic_id="", num_partitions=topics.num_partitions)

    @property
    def topic(self) -> str:
        """The topic whose partitions these are."""
        return self._topics.events

    @property
    def held(self) -> Set[int]:
        """Partitions that are held now."""
        return self._held.keys()

    @property
    def stores(self) -> Mapping[int, SequenceStore]:
        """Open stores by partition."""
        return {number: held.store for number, held in sorted(self._held.items())}

    def next_offset(self, partition: int) -> int | None:
        """Offset after the last applied record; None where the partition is not held."""
        held = self._held.get(partition)
        return None if held is None else held.store.applied + 1

    def failed(self, error: HeadwaterError) -> None:
        """End the worker because of this error."""
        self._ending.fail(error)

    async def place(self, bounds: Mapping[int, Bounds]) -> Mapping[int, int]:
        """Hold exactly the partitions of `bounds` and say where reading goes on in each.

        1. Ask the broker for the topic's id and partition count.
        2. Close what is no longer assigned or belongs to a former topic of that name.
        3. Open what is newly assigned, restored from its newest checkpoint where there is no state.
        4. Compare the next offset of each with what can be read.

        Raises `HeadwaterError` where reading cannot go on.
        """
        # Step 1.
        description = await asyncio.to_thread(self._describe)
        # Step 2.
        same_log = description.topic_id == self.description.topic_id
        await self.close(set(self._held) - set(bounds) if same_log else set(self._held))
        self.description = description
        # Step 3.
        missing = sorted(set(bounds) - set(self._held))
        for number, store in zip(missing, await asyncio.gather(*map(self._open, missing)), strict=True):
            self._hold(number, store)
        # Step 4.
        return {number: self._position(number, bound) for number, bound in bounds.items()}

    def apply(self, chunk: Chunk, changes: list[Change]) -> Applied | None:
        """Apply a chunk; None where its partition is no longer held. Raises `LogHoleError`."""
        held = self._held.get(chunk.partition)
        if held is None:
            return None
        applied = held.store.apply(chunk.start, chunk.last, changes)
        held.sender.wake()
        return applied

    async def checkpoint(self) -> None:
        """Make a checkpoint of each partition."""
        for held in list(self._held.values()):
            if held.store.applied >= 0:
                held.store.checkpoint()
            await asyncio.sleep(0)

    async def close(self, partitions: Collection[int] | None = None) -> None:
        """Close these partitions, or all."""
        for number in list(self._held) if partitions is None else partitions:
            held = self._held.pop(number)
            held.sending.cancel()
            await asyncio.gather(held.sending, return_exceptions=True)
            held.store.close()

    def _describe(self) -> TopicDescription:
        found = describe_topic(self._kafka, self.topic)
        if found is None:
            raise SetupError(f"topic {self.topic} does not exist: run `headwater topics create`")
        return found

    async def _open(self, partition: int) -> SequenceStore:
        deadline = time.monotonic() + IN_USE_SECONDS
        while True:
            try:
                return await asyncio.to_thread(self._open_now, partition)
            except StateInUseError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    def _open_now(self, partition: int) -> SequenceStore:
        return SequenceStore.open(
            self._store_settings,
            topic=self.topic,
            partition=partition,
            num_partitions=self.description.num_partitions,
            topic_id=self.description.topic_id,
        )

    def _hold(self, number: int, store: SequenceStore) -> None:
        sender = self._new_sender(store)
        sending = asyncio.create_task(sender.run(), name=f"outbox-{number}")
        sending.add_done_callback(self._sender_ended)
        self._held[number] = Partition(store, sender, sending)
        logger.info("partition %d of %s is held, applied to offset %d", number, self.topic, store.applied)

    def _sender_ended(self, sending: asyncio.Task[None]) -> None:
        if sending.cancelled():
            return
        error = sending.exception()
        if isinstance(error, HeadwaterError):
            self._ending.fail(error)
        else:
            exit_now(f"{sending.get_name()} ended", error)

    def _position(self, number: int, bounds: Bounds) -> int:
        store = self._held[number].store
        if store.applied < 0:
            self._begin(store, bounds)
        position = store.applied + 1
        if position < bounds.earliest:
            raise LogHoleError(
                f"offsets {position} to {bounds.earliest - 1} of {self.topic}-{number} have expired before they were "
                f"applied: restore a checkpoint of offset {bounds.earliest - 1} or later into "
                f"{self._folder(number)}, or lengthen topics.events_retention_days and rebuild the state"
            )
        if bounds.refused and position > bounds.end:
            raise StateError(
                f"state in {self._folder(number)} is at offset {position} of {self.topic}-{number}, which ends at "
                f"{bounds.end}: the log was cut; restore the log, or delete the state folder and replay it"
            )
        return position

    def _begin(self, store: SequenceStore, bounds: Bounds) -> None:
        # A new epoch begins at its log's beginning; a new partition where the settings say. One that the group
        # has read before lost its state, and goes on only if nothing expired.
        if store.epoch == 0 and bounds.committed is not None:
            return
        first = bounds.end if store.epoch == 0 and self._worker.start == "latest" else bounds.earliest
        if first > 0:
            logger.warning("%s-%d is read from offset %d on", self.topic, store.partition, first)
            store.apply(0, first - 1, [])

    def _folder(self, partition: int) -> Path:
        return self._store_settings.folder / f"p{partition}"
