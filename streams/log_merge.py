"""The partitions of `samples` and of the catalogue as one stream, whose order follows from the logs alone.

Of the partitions' heads, the one with the smallest Kafka time is next, that of a sample being its trigger's; of equal
ones a record of the catalogue, then that of the lower partition. Each partition keeps its own order. So a learner that
begins again at the offsets of a version takes what follows in the order in which it was taken before, however the
broker portions it.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import msgspec
from kafka import TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types

from streams.forgotten import Due, Forgotten, decode_due
from streams.items import InvalidItemError, Item, Withdrawn, decode_news

News: TypeAlias = Due | Item | Withdrawn


class Placed(NamedTuple):
    """A record: where it was, and what it held."""

    source: Any
    """`TopicPartition` that it is of."""
    offset: int
    kafka_ms: int
    """Kafka time of a sample's trigger, of any other record its own."""
    news: News | None
    """None where it held nothing of ours."""
    written_ms: int
    """Its own Kafka time."""


class LogMerge:
    """Records that were read, by partition; only heads are decoded."""

    def __init__(self, partitions: Iterable[Any], catalogue: str) -> None:
        """Over partitions, those of the topic `catalogue` with items, the others with samples."""
        self._catalogue = catalogue
        self._behind: dict[Any, deque[Any]] = {partition: deque() for partition in partitions}
        """Of each partition, what is behind its head."""
        self._heads: list[tuple[int, bool, int, Placed]] = []
        self.headless = set(self._behind)
        """Partitions of which nothing is here."""

    def __len__(self) -> int:
        return len(self._heads) + sum(map(len, self._behind.values()))

    def __bool__(self) -> bool:
        return bool(self._heads)

    def num_of(self, partition: Any) -> int:
        """Records of a partition that are here."""
        return len(self._behind[partition]) + (partition not in self.headless)

    def put(self, partition: Any, records: Iterable[Any]) -> None:
        """Add records of a partition, which follow those that were added before."""
        self._behind[partition].extend(records)
        if partition in self.headless:
            self._advance(partition)

    def take(self) -> Placed:
        """The next one of those that are here; there must be one."""
        *_, placed = heapq.heappop(self._heads)
        self._advance(placed.source)
        return placed

    def _advance(self, partition: Any) -> None:
        """Make the next record of a partition its head."""
        behind = self._behind[partition]
        if not behind:
            self.headless.add(partition)
            return
        is_sample = partition.topic != self._catalogue
        placed = (_placed_sample if is_sample else _placed_item)(behind.popleft())
        heapq.heappush(self._heads, (placed.kafka_ms, is_sample, partition.partition, placed))
        self.headless.discard(partition)


def _placed_sample(record: Any) -> Placed:
    source = TopicPartition(record.topic, record.partition)
    try:
        due = decode_due(record.value)
    except msgspec.DecodeError:
        return Placed(source, record.offset, record.timestamp, None, record.timestamp)
    trigger_ms = record.timestamp if isinstance(due, Forgotten) else max(due.kafka_ms, default=record.timestamp)
    return Placed(source, record.offset, trigger_ms, due, record.timestamp)


def _placed_item(record: Any) -> Placed:
    source = TopicPartition(record.topic, record.partition)
    try:
        news = decode_news(record.key, record.value)
    except InvalidItemError:
        news = None
    return Placed(source, record.offset, record.timestamp, news, record.timestamp)
