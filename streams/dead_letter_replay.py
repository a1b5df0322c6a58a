"""Dead letters sent again into `events`, once what made them invalid is mended: `headwater dlq replay`.

A record goes out under its own event id or, where it has none, one made of its dead letter's; so sending it twice is
as good as once. It is keyed by the user that its value names, whatever its key was.
"""

import asyncio
import hashlib
import time
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Literal

import msgspec
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from storage.errors import SetupError
from streams.bulk import BulkRecord, BulkSender, bulk_producer
from streams.dead_letters import DeadLetterRecord, read_dead_letters
from streams.events import InvalidEventError, Kind, decode_value, encoding_of
from streams.forwarding import ORIGIN, forwarded
from streams.kafka_settings import KafkaSettings
from streams.partitioning import partitions_of
from streams.topics import TopicSettings, existing_topic


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; None or empty means any."""

    causes: tuple[str, ...] = ()
    topic: str | None = None
    """Topic that the record was refused in."""
    partition: int | None = None
    """Its partition there."""
    offset: int | None = None
    """Its offset there."""
    limit: int | None = None
    """Most dead letters, in the order in which they are read."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be >= 1, got {self.limit}")
        if self.offset is not None and self.partition is None:
            raise ValueError(f"offset {self.offset} needs a partition, too: offsets are counted in each by itself")

    def matches(self, letter: DeadLetterRecord) -> bool:
        """Whether a dead letter is meant."""
        pairs = ((self.topic, letter.topic), (self.partition, letter.partition), (self.offset, letter.offset))
        return (not self.causes or letter.cause in self.causes) and all(
            wanted is None or wanted == found for wanted, found in pairs
        )


class ReplayedLetter(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one dead letter."""

    topic: str
    partition: int
    offset: int
    cause: str
    """Why it was refused then."""
    result: Literal["sent", "refused", "incomplete"]
    message: str = ""
    """Why it was not sent now."""


def replay_dead_letters(
    kafka: KafkaSettings,
    topics: TopicSettings,
    actions: Collection[str],
    chosen: LetterFilter,
    *,
    dry_run: bool = False,
) -> list[ReplayedLetter]:
    """Send the chosen dead letters again and say what became of each; with `dry_run`, what would become of it.

    What is still no valid event is not sent, nor what is longer than a dead letter holds. Raises `SetupError` where
    Kafka does not answer or a topic does not exist.
    """
    num_partitions = existing_topic(kafka, topics.events).num_partitions
    judge = _Judge(topics, frozenset(actions), num_partitions)
    letters = islice(filter(chosen.matches, read_dead_letters(kafka, topics)), chosen.limit)
    if dry_run:
        return [judge(letter)[0] for letter in letters]
    try:
        return _send(kafka, topics.events, map(judge, letters))
    except (KafkaError, OSError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise SetupError(f"{topics.events} did not take all records ({detail}); run it again, twice is once") from error


def _send(
    kafka: KafkaSettings, topic: str, judged: Iterable[tuple[ReplayedLetter, BulkRecord | None]]
) -> list[ReplayedLetter]:
    replayed = []
    # Dead letters are read by a client that blocks, so the event loop runs only while something is sent.
    with asyncio.Runner() as runner:
        producer = runner.run(_started(kafka))
        try:
            sender = BulkSender(producer, topic)
            for letter, record in judged:
                replayed.append(letter)
                if record is not None:
                    runner.run(sender.send([record]))
            runner.run(sender.flush())
        finally:
            runner.run(producer.stop())
    return replayed


async def _started(kafka: KafkaSettings) -> AIOKafkaProducer:
    producer = bulk_producer(kafka)
    await producer.start()
    return producer


class _Judge:
    """Says of a dead letter what becomes of it, and how it is sent."""

    def __init__(self, topics: TopicSettings, actions: frozenset[str], num_partitions: int) -> None:
        self._kinds: dict[str, Kind] = {topics.events: "event", **topics.sources}
        self._actions = actions
        self._num_partitions = num_partitions

    def __call__(self, letter: DeadLetterRecord) -> tuple[ReplayedLetter, BulkRecord | None]:
        try:
            record = self._record(letter)
        except InvalidEventError as error:
            return self._outcome(letter, "refused", f"{error.cause}: {error}"), None
        if record is None:
            message = f"the dead letter holds {len(letter.head)} of {letter.size} bytes; send it anew from its source"
            return self._outcome(letter, "incomplete", message), None
        return self._outcome(letter, "sent"), record

    def _record(self, letter: DeadLetterRecord) -> BulkRecord | None:
        if hashlib.sha256(letter.head).hexdigest() != letter.sha256:
            return None
        now_ms = int(time.time() * 1000)
        event = decode_value(letter.head, now_ms, self._actions, self._kinds.get(letter.topic, "event"))
        event_id = f"dlq-{letter.letter_id}-{letter.sha256[:16]}"
        key, value = forwarded(event, event_id=event_id, encoding=encoding_of(letter.head))
        (partition,) = partitions_of([key], self._num_partitions)
        origin = f"{letter.topic}-{letter.partition}-{letter.offset}".encode()
        return BulkRecord(partition, key, value, ((ORIGIN, origin),))

    @staticmethod
    def _outcome(
        letter: DeadLetterRecord, result: Literal["sent", "refused", "incomplete"], message: str = ""
    ) -> ReplayedLetter:
        return ReplayedLetter(
            topic=letter.topic,
            partition=letter.partition,
            offset=letter.offset,
            cause=letter.cause,
            result=result,
            message=message,
        )
