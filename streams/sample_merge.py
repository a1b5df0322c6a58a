"""The partitions of `samples` as one stream, whose order follows from the log alone.

Of the partitions' heads, the one whose trigger has the smallest Kafka time is next, of equal ones that of the lower
partition; each partition keeps its own order. So a learner that begins again at the offsets of a version takes what
follows in the order in which it was taken before, however the broker portions it.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from streams.forgotten import Due, Forgotten, decode_due


class PlacedSample(NamedTuple):
    """A record of `samples`: where it was, and what it held, None where that is nothing of ours."""

    partition: int
    offset: int
    trigger_ms: int
    """Kafka time of the sample's trigger; of the record itself where it held no sample."""
    sample: Due | None


class SampleMerge:
    """Records that were read, by partition; only heads are decoded."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self._behind: dict[int, deque[Any]] = {number: deque() for number in partitions}
        """Of each partition, what is behind its head."""
        self._heads: list[tuple[int, int, PlacedSample]] = []
        self.headless = set(self._behind)
        """Partitions of which nothing is here."""

    def __len__(self) -> int:
        return len(self._heads) + sum(map(len, self._behind.values()))

    def __bool__(self) -> bool:
        return bool(self._heads)

    def num_of(self, partition: int) -> int:
        """Records of a partition that are here."""
        return len(self._behind[partition]) + (partition not in self.headless)

    def put(self, partition: int, records: Iterable[Any]) -> None:
        """Add records of a partition, which follow those that were added before."""
        self._behind[partition].extend(records)
        if partition in self.headless:
            self._advance(partition)

    def take(self) -> PlacedSample:
        """The next one of those that are here; there must be one."""
        _, partition, placed = heapq.heappop(self._heads)
        self._advance(partition)
        return placed

    def _advance(self, partition: int) -> None:
        """Make the next record of a partition its head."""
        behind = self._behind[partition]
        if not behind:
            self.headless.add(partition)
            return
        placed = _placed(behind.popleft())
        heapq.heappush(self._heads, (placed.trigger_ms, partition, placed))
        self.headless.discard(partition)


def _placed(record: Any) -> PlacedSample:
    try:
        due = decode_due(record.value)
    except msgspec.DecodeError:
        return PlacedSample(record.partition, record.offset, record.timestamp, None)
    trigger_ms = record.timestamp if isinstance(due, Forgotten) else max(due.kafka_ms, default=record.timestamp)
    return PlacedSample(record.partition, record.offset, trigger_ms, due)
