"""The source partitions that a worker holds: their stores and outbox senders, opened and closed as they come and go."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.changes import Change
from storage.columns import NO_RECORDS
from storage.errors import HeadwaterError, LogHoleError, SetupError, StateError
from storage.records import Records
from storage.sequence_store import SequenceStore
from storage.shipping import CheckpointShipping
from storage.store_settings import StoreSettings
from storage.user_run import Applied
from streams.checkpointing import CheckpointThreads, PartitionCheckpoints
from streams.chunks import Bounds, Chunk
from streams.faults import Ending, exit_now
from streams.kafka_settings import KafkaSettings
from streams.opening import Opening
from streams.topics import TopicDescription, TopicSettings, describe_topic
from streams.worker_settings import WorkerSettings

OPEN_WAIT_SECONDS = 2.0
"""How long reading waits for stores that are being opened; partitions whose stores take longer join in later."""

logger = logging.getLogger(__name__)


class OutboxEmptier(Protocol):
    """Takes what has arrived out of a store's outbox."""

    def wake(self) -> None:
        """Told that something may have come into the outbox."""

    async def run(self) -> None:
        """Work until cancelled."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition that is held."""

    store: SequenceStore
    checkpoints: PartitionCheckpoints
    sender: OutboxEmptier
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
        new_sender: Callable[[SequenceStore], OutboxEmptier],
        ending: Ending,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._store_settings = store
        self._worker = worker
        self._new_sender = new_sender
        self._ending = ending
        shipping = _shipping(topics, store, worker)
        self._threads = CheckpointThreads(shipping)
        self._opening = Opening(store, topic=topics.events, shipping=shipping, opened=self._hold, failed=ending.fail)
        self._held: dict[int, Partition] = {}
        self._making: set[asyncio.Task[None]] = set()
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
    def opening(self) -> Set[int]:
        """Partitions that are ours and whose stores are not open yet."""
        return self._opening.partitions

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

    def checkpoint_age_seconds(self, partition: int) -> float | None:
        """Seconds since the newest checkpoint of a partition was made, or arrived where checkpoints are shipped to.

        None where the partition is not held or no checkpoint is known.
        """
        held = self._held.get(partition)
        return None if held is None else held.checkpoints.age_seconds

    def checkpoint_ages(self) -> list[float]:
        """Those ages of the partitions held that are known."""
        ages = [held.checkpoints.age_seconds for held in self._held.values()]
        return [age for age in ages if age is not None]

    async def place(self, bounds: Mapping[int, Bounds]) -> Mapping[int, int]:
        """Hold the partitions of `bounds` and no others, and say where reading goes on in each that is open.

        1. Ask the broker for the topic's id and partition count.
        2. Close what is no longer assigned or belongs to a former topic of that name.
        3. Begin to open what is newly assigned, from its newest checkpoint where that serves better than what is on
           the disk, and wait a moment; what takes longer or fails is in `opening`, and missing from the answer.
        4. Compare the next offset of each that is open with what can be read.

        Raises `HeadwaterError` where reading cannot go on.
        """
        # Step 1.
        description = await asyncio.to_thread(self._describe)
        # Step 2.
        same_log = description.topic_id == self.description.topic_id
        leaving = (self.held | self.opening) - bounds.keys() if same_log else self.held | self.opening
        await self.close(leaving)
        self.description = description
        # Step 3.
        missing = sorted(bounds.keys() - self.held - self.opening)
        earliest = {number: bounds[number].earliest for number in missing}
        await self._opening.begin(earliest, description, wait_seconds=OPEN_WAIT_SECONDS)
        self._check_any_opens()
        # Step 4.
        return {number: self._position(number, bound) for number, bound in bounds.items() if number in self._held}

    def apply(self, chunk: Chunk, changes: list[Change], columns: Records = NO_RECORDS) -> Applied | None:
        """Apply what a chunk was decoded to; None where its partition is no longer held. Raises `LogHoleError`."""
        held = self._held.get(chunk.partition)
        if held is None:
            return None
        applied = held.store.apply(chunk.start, chunk.last, changes, columns)
        held.sender.wake()
        return applied

    async def checkpoint(self, seconds: float | None = None) -> None:
        """Make a checkpoint of each partition, in threads; returns once all are made, or after `seconds`.

        What is not made by then goes on; a failure ends the worker.
        """
        making = [self._checkpoint(held) for held in self._held.values()]
        if making:
            await asyncio.wait(making, timeout=seconds)

    async def ship(self, seconds: float) -> None:
        """Return once the checkpoints that were made are shipped, or after `seconds`."""
        shipping = [asyncio.create_task(held.checkpoints.arrived()) for held in self._held.values()]
        if shipping:
            await asyncio.wait(shipping, timeout=seconds)

    async def close(self, partitions: Collection[int] | None = None) -> None:
        """Close these partitions, or all and what they share."""
        leaving = self.held | self.opening if partitions is None else set(partitions)
        await self._opening.cancel(leaving)
        await asyncio.gather(*(self._close(self._held.pop(number)) for number in leaving & self._held.keys()))
        if partitions is None:
            self._opening.close()
            self._threads.close()

    async def _close(self, held: Partition) -> None:
        held.sending.cancel()
        await asyncio.gather(held.sending, return_exceptions=True)
        await held.checkpoints.made()
        await asyncio.to_thread(held.store.close)

    def _describe(self) -> TopicDescription:
        found = describe_topic(self._kafka, self.topic)
        if found is None:
            raise SetupError(f"topic {self.topic} does not exist: run `headwater topics create`")
        return found

    def _check_any_opens(self) -> None:
        # What fails for all of them is no accident of one, and waiting would only hide it.
        failed = self._opening.errors
        if failed and not self._held and failed.keys() == self.opening:
            first = failed[min(failed)]
            if isinstance(first, StateError):
                raise first

    def _hold(self, store: SequenceStore) -> None:
        number = store.partition
        sender = self._new_sender(store)
        sending = asyncio.create_task(sender.run(), name=f"outbox-{number}")
        sending.add_done_callback(self._sender_ended)
        checkpoints = PartitionCheckpoints(store, self._threads, topic_id=self.description.topic_id)
        self._held[number] = Partition(store, checkpoints, sender, sending)
        place = {"partition": number, "offset": store.applied}
        logger.info("partition %d of %s is held, applied to offset %d", number, self.topic, store.applied, extra=place)
        age = checkpoints.age_seconds
        if age is None or age > self._worker.checkpoint_seconds:
            # The log may not reach back to an old one for long.
            self._checkpoint(self._held[number])

    def _checkpoint(self, held: Partition) -> asyncio.Task[None]:
        making = asyncio.create_task(held.checkpoints.make())
        self._making.add(making)
        making.add_done_callback(self._checkpoint_made)
        return making

    def _checkpoint_made(self, making: asyncio.Task[None]) -> None:
        self._making.discard(making)
        if making.cancelled():
            return
        error = making.exception()
        if isinstance(error, HeadwaterError):
            self._ending.fail(error)
        elif error is not None:
            exit_now("a checkpoint cannot be made", error)

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
            place = {"partition": store.partition, "offset": first}
            logger.warning("%s-%d is read from offset %d on", self.topic, store.partition, first, extra=place)
            store.apply(0, first - 1, [])
            store.flush()  # after a kill it must not be read from elsewhere

    def _folder(self, partition: int) -> Path:
        return self._store_settings.folder / f"p{partition}"


def _shipping(topics: TopicSettings, store: StoreSettings, worker: WorkerSettings) -> CheckpointShipping | None:
    if not worker.checkpoint_url:
        return None
    return CheckpointShipping(worker.checkpoint_url, topic=topics.events, keep=store.num_checkpoints)
