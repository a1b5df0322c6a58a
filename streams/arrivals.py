"""What has arrived of the outboxes: the ids at the ends of the topics that the partitions' owners send to.

An owner sends its outbox in order, so whatever precedes an id that has arrived has arrived, too. That is how a standby
learns what it need not send, without reading more than the ends.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from storage.changes import SampleRef
from storage.entries import pack_position, unpack_position
from storage.errors import SetupError
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings

SAMPLE_ID = "id"
LETTER_ID = "headwater.id"
LETTER_TOPIC = "__streams.errors.topic"
LOOK_SECONDS = 2.0
"""Pause between two looks at the ends of the topics."""
READ_SECONDS = 5.0
"""How long the last records may take to come."""
MAX_ITEMS = 1_000
"""Items of an outbox that are looked through at once."""

logger = logging.getLogger(__name__)


class Arrivals:
    """The highest ids of samples and dead letters that were seen at the topics' ends, by partition."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        self.samples: dict[int, OutboxKey] = {}
        self.letters: dict[int, OutboxKey] = {}
        self._kafka = kafka
        self._topics = topics
        self._ends: dict[Any, int] = {}

    async def run(self, num_partitions: int) -> None:
        """Look again and again until cancelled."""
        names = (self._topics.samples, self._topics.dead_letters)
        consumer = AIOKafkaConsumer(
            **client_options(self._kafka), enable_auto_commit=False, auto_offset_reset="earliest", group_id=None
        )
        try:
            await consumer.start()
            consumer.assign([TopicPartition(name, number) for name in names for number in range(num_partitions)])
            while True:
                try:
                    await self._look(consumer)
                except KafkaError as error:
                    logger.warning("the ends of samples and dead letters cannot be read, trying again: %s", error)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await consumer.stop()

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        assigned = consumer.assignment()
        begins: dict[Any, int] = await consumer.beginning_offsets(list(assigned))
        ends: dict[Any, int] = await consumer.end_offsets(list(assigned))
        moved = {tp: end for tp, end in ends.items() if end > begins[tp] and end != self._ends.get(tp)}
        consumer.pause(*(assigned - moved.keys()))
        consumer.resume(*moved)
        for tp, end in moved.items():
            consumer.seek(tp, end - 1)
        deadline = asyncio.get_running_loop().time() + READ_SECONDS
        waiting = set(moved)
        while waiting and asyncio.get_running_loop().time() < deadline:
            for tp, records in (await consumer.getmany(*waiting, timeout_ms=200)).items():
                self._note(tp, records)
                self._ends[tp] = ends[tp]
                waiting.discard(tp)

    def _note(self, tp: Any, records: Sequence[Any]) -> None:
        is_sample = tp.topic == self._topics.samples
        highest = self.samples if is_sample else self.letters
        for record in records:
            headers = dict(record.headers)
            key = _key_of(headers.get(SAMPLE_ID if is_sample else LETTER_ID, b""))
            is_ours = is_sample or headers.get(LETTER_TOPIC) == self._topics.events.encode()
            if key is not None and is_ours:
                highest[tp.partition] = max(highest.get(tp.partition, key), key)


class OutboxPruner:
    """Takes out of a standby's outbox what the partition's owner has sent."""

    def __init__(self, store: SequenceStore, arrivals: Arrivals) -> None:
        self._store = store
        self._arrivals = arrivals

    def wake(self) -> None:
        """Do nothing: what has just come in has not arrived yet."""

    async def run(self) -> None:
        """Prune again and again until cancelled; raises `SetupError` where the owner is in another epoch of the log."""
        while True:
            await self.prune()
            await asyncio.sleep(LOOK_SECONDS)

    async def prune(self) -> None:
        """Take out what has arrived by now."""
        sample = self._arrivals.samples.get(self._store.partition)
        letter = self._arrivals.letters.get(self._store.partition)
        marks = [mark for mark in (sample, letter) if mark is not None]
        self._check_epoch(marks)
        after = None
        while marks and (items := self._store.outbox(MAX_ITEMS, after)):
            self._store.acknowledge(
                key for key, item in items if _has_arrived(key, sample if isinstance(item, SampleRef) else letter)
            )
            after = items[-1][0]
            if after > max(marks):
                break
            await asyncio.sleep(0)

    def _check_epoch(self, marks: Iterable[OutboxKey]) -> None:
        epochs = [unpack_position(mark.position)[0] for mark in marks]
        if max(epochs, default=0) > self._store.epoch:
            raise SetupError(
                f"partition {self._store.partition} is in epoch {max(epochs)} at its owner and in {self._store.epoch} "
                "here: the topic was made anew before this standby began; set worker.checkpoint_url for both, delete "
                "this one's store.folder and start it again, so that it begins at the owner's checkpoint"
            )


def _has_arrived(key: OutboxKey, mark: OutboxKey | None) -> bool:
    return mark is not None and key <= mark


def _key_of(sent_id: bytes) -> OutboxKey | None:
    """The outbox key in the id of something that was sent: EPOCH-PARTITION-OFFSET-N or EPOCH-PARTITION-OFFSET."""
    parts = sent_id.split(b"-")
    if len(parts) not in (3, 4) or not all(part.isdigit() and len(part) <= 15 for part in parts):
        return None
    epoch, _, offset, n = (int(part) for part in (*parts, b"0")[:4])
    return OutboxKey(pack_position(epoch, offset), n)
