"""What has arrived of the outboxes: the ids at the ends of the topics that the partitions' owners send to.

An owner sends its outbox in order, so whatever precedes an id that has arrived has arrived, too. That is how a standby
learns what it need not send, without reading more than the ends.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from storage.changes import Refused
from storage.entries import pack_position
from storage.errors import SetupError
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from streams.forgotten import decode_due
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings

LETTER_ID = "headwater.id"
LETTER_TOPIC = "__streams.errors.topic"
MAX_DIGITS = 15
"""Digits of an offset at most."""
LOOK_SECONDS = 2.0
"""Pause between two looks at the ends of the topics."""
READ_SECONDS = 5.0
"""How long the last records may take to come."""
MAX_ITEMS = 1_000
"""Items of an outbox that are looked through at once."""

logger = logging.getLogger(__name__)


class Arrived(NamedTuple):
    """The id of a sample or a dead letter."""

    topic_id: str
    """Log that the record is in that it was made of."""
    offset: int
    n: int = 0
    epoch: int = 0
    """Log epoch at the owner; 0 of a dead letter, which does not tell it."""


class Arrivals:
    """The highest ids of samples and dead letters that were seen at the topics' ends, by partition."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings) -> None:
        self.samples: dict[int, Arrived] = {}
        self.letters: dict[int, Arrived] = {}
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
            arrived = _sample_id(record.value) if is_sample else self._letter_id(dict(record.headers))
            if arrived is None:
                continue
            known = highest.get(tp.partition, arrived)
            highest[tp.partition] = max(known, arrived) if known.topic_id == arrived.topic_id else arrived

    def _letter_id(self, headers: dict[str, bytes]) -> Arrived | None:
        """Of TOPIC_ID-PARTITION-OFFSET; a topic id may hold hyphens."""
        topic_id, *numbers = headers.get(LETTER_ID, b"").rsplit(b"-", 2)
        if headers.get(LETTER_TOPIC) != self._topics.events.encode() or len(numbers) != 2:
            return None
        offset = numbers[1]
        if not offset.isdigit() or len(offset) > MAX_DIGITS:
            return None
        return Arrived(topic_id.decode("utf-8", "replace"), int(offset))


class OutboxPruner:
    """Takes out of a standby's outbox what the partition's owner has sent."""

    def __init__(self, store: SequenceStore, arrivals: Arrivals) -> None:
        self._store = store
        self._arrivals = arrivals

    def wake(self) -> None:
        """Do nothing: what has just come in has not arrived yet."""

    async def run(self) -> None:
        """Prune again and again until cancelled; raises `SetupError` where the owner is in a later epoch of the log."""
        while True:
            await self.prune()
            await asyncio.sleep(LOOK_SECONDS)

    async def prune(self) -> None:
        """Take out what has arrived by now."""
        self._check_epoch()
        sample, letter = self._newest(self._arrivals.samples), self._newest(self._arrivals.letters)
        marks = [mark for mark in (sample, letter) if mark is not None]
        after = None
        while marks and (items := self._store.outbox(MAX_ITEMS, after)):
            self._store.acknowledge(
                key for key, item in items if _has_arrived(key, letter if isinstance(item, Refused) else sample)
            )
            after = items[-1][0]
            if after > max(marks):
                break
            await asyncio.sleep(0)

    def _newest(self, arrived: Mapping[int, Arrived]) -> OutboxKey | None:
        """What the newest id would have in this store's outbox; None for one of another log, which says nothing."""
        found = arrived.get(self._store.partition)
        if found is None or found.topic_id != self._store.topic_id:
            return None
        return OutboxKey(pack_position(self._store.epoch, found.offset), found.n)

    def _check_epoch(self) -> None:
        number, epoch = self._store.partition, self._store.epoch
        sample = self._arrivals.samples.get(number)
        if sample is not None and sample.topic_id == self._store.topic_id and sample.epoch > epoch:
            raise SetupError(
                f"partition {number} is in epoch {sample.epoch} at its owner and in {epoch} "
                "here: the topic was made anew before this standby began; set worker.checkpoint_url for both, delete "
                "this one's store.folder and start it again, so that it begins at the owner's checkpoint"
            )


def _has_arrived(key: OutboxKey, mark: OutboxKey | None) -> bool:
    return mark is not None and key <= mark


def _sample_id(value: bytes | None) -> Arrived | None:
    try:
        due = decode_due(value)
    except msgspec.DecodeError:
        return None
    return Arrived(due.topic_id, due.trigger_offset, due.n, due.epoch)
