"""Made-up samples as workers send them, and a consumer that hands them out, for the tests of the learner."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from kafka.errors import OffsetOutOfRangeError  # type: ignore[import-untyped]  # kafka-python ships no types

from storage.entries import pack_position
from storage.sample_body import NEW_ACTION, NEW_EXPOSURE
from streams.forgotten import Due, Forgotten, encode_forgotten
from streams.items import Item, Withdrawn, encode_item
from streams.samples import Sample, encode_sample

TOPIC = "samples"
CATALOGUE = "items"
LOG_ID = "log-1"
"""Id of the source topic."""
CONTEXT = 20
"""Events that a made-up sample holds at most."""


def sample_factory(**changes: Any) -> Sample:
    """The first sample of user `ada`: an exposure at offset 0, acted on at offset 1."""
    fields: dict[str, Any] = {
        "topic_id": LOG_ID,
        "epoch": 0,
        "partition": 0,
        "trigger_offset": 1,
        "n": 0,
        "since": -1,
        "user_id": "ada",
        "item_ids": ["i1"],
        "ts_ms": [1_000],
        "actions": [1],
        "groups": [0],
        "new": [NEW_EXPOSURE | NEW_ACTION],
        "value_places": [],
        "value_actions": [],
        "values": [],
        "features": [],
        "exposure_rate": 1.0,
        "num_records": 2,
        "kafka_ms": [1_000, 1_001],
    }
    return Sample(**(fields | changes))


def forgotten_factory(**changes: Any) -> Forgotten:
    """Word that user `ada` was forgotten at offset 2."""
    fields: dict[str, Any] = {"topic_id": LOG_ID, "epoch": 0, "partition": 0, "trigger_offset": 2, "n": 0}
    return Forgotten(**(fields | {"user_id": "ada"} | changes))


def make_samples(
    num: int, *, num_users: int = 5, num_items: int = 12, num_partitions: int = 2, seed: int = 0
) -> list[Sample]:
    """Samples in the order of time, each with one new event; what happens is an impression, then an action."""
    rng = np.random.default_rng(seed)
    next_offset = [0] * num_partitions
    events: dict[str, list[tuple[str, int, int, int]]] = {}
    since: dict[str, int] = {}
    made = []
    for number in range(num):
        user = int(rng.integers(num_users))
        user_id, partition = f"u{user}", user % num_partitions
        offset = next_offset[partition]
        next_offset[partition] += 2
        item, ts_ms = int(rng.integers(num_items)), 1_000 * number
        events.setdefault(user_id, []).append((f"i{item}", ts_ms, 1 + item % 2, pack_position(0, offset)))
        last = events[user_id][-CONTEXT:]
        made.append(
            sample_factory(
                partition=partition,
                trigger_offset=offset + 1,
                since=since.get(user_id, -1),
                user_id=user_id,
                item_ids=[event[0] for event in last],
                ts_ms=[event[1] for event in last],
                actions=[event[2] for event in last],
                groups=[event[3] for event in last],
                new=[0] * (len(last) - 1) + [NEW_EXPOSURE | NEW_ACTION],
                kafka_ms=[ts_ms, ts_ms + 1],
            )
        )
        since[user_id] = pack_position(0, offset + 1)
    return made


class Record(NamedTuple):
    """One record of the topic `samples`, or of the catalogue."""

    partition: int
    offset: int
    value: bytes | None
    timestamp: int = 0
    topic: str = TOPIC
    key: bytes | None = None


class SampleLog:
    """The topic `samples`, as lists."""

    def __init__(self, num_partitions: int = 2) -> None:
        self.partitions: dict[int, list[bytes | None]] = {number: [] for number in range(num_partitions)}
        self.earliest = dict.fromkeys(self.partitions, 0)
        """Where each partition begins: what lies before has expired."""
        self.items: list[Record] = []
        """The catalogue, which is there where anything is in it."""

    def describe(self, kafka_ms: int, *news: Item | Withdrawn) -> "SampleLog":
        """Append to the catalogue what is said of items at a Kafka time."""
        for each in news:
            value = None if isinstance(each, Withdrawn) else encode_item(each)
            self.items.append(Record(0, len(self.items), value, kafka_ms, CATALOGUE, each.item_id.encode()))
        return self

    def send(self, samples: Iterable[Due]) -> "SampleLog":
        """Append samples, or words that a user was forgotten, each to the partition of its source's number."""
        for sample in samples:
            value = encode_forgotten(sample) if isinstance(sample, Forgotten) else encode_sample(sample)
            self.partitions[sample.partition].append(value)
        return self


class LogConsumer:
    """Hands out up to `num_records` of each partition a poll; `on_poll` is called with the number of each poll.

    `at_end` is called by the poll that finds nothing more.
    """

    def __init__(self, log: SampleLog, *, num_records: int = 3) -> None:
        self.log = log
        self.num_records = num_records
        self.positions: dict[Any, int] = {}
        self.stopped: set[Any] = set()
        """Partitions that are paused."""
        self.held: set[Any] = set()
        """Partitions that have more and hand out nothing."""
        self.sought: list[str] = []
        """Where reading of `samples` began."""
        self.num_polls = 0
        self.closed = False
        self.on_poll: Any = lambda number: None
        self.at_end: Any = lambda: None

    def partitions_for_topic(self, topic: str) -> set[int]:
        if topic == CATALOGUE:
            return {0} if self.log.items else set()
        return set(self.log.partitions)

    def assign(self, partitions: list[Any]) -> None:
        self.assigned = partitions

    def assignment(self) -> set[Any]:
        return set(self.assigned)

    def position(self, partition: Any) -> int:
        return self.positions[partition]

    def highwater(self, partition: Any) -> int | None:
        return self._end(partition) if self.num_polls else None

    def paused(self) -> set[Any]:
        return self.stopped.copy()

    def pause(self, partition: Any) -> None:
        self.stopped.add(partition)

    def resume(self, partition: Any) -> None:
        self.stopped.remove(partition)

    def beginning_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        return {partition: self._beginning(partition) for partition in partitions}

    def seek(self, partition: Any, offset: int) -> None:
        self.positions[partition] = offset
        self._note(partition, str(offset))

    def seek_to_beginning(self, partition: Any) -> None:
        self.positions[partition] = self._beginning(partition)
        self._note(partition, "beginning")

    def poll(self, *, timeout_ms: int, max_records: int) -> dict[Any, list[Record]]:
        self.num_polls += 1
        self.on_poll(self.num_polls)
        polled = {}
        for partition in sorted({*self.assigned} - self.stopped - self.held):
            start = self.positions[partition]
            if not self._beginning(partition) <= start <= self._end(partition):
                raise OffsetOutOfRangeError({partition: start})
            records = self._records(partition)[start : start + self.num_records]
            if records:
                polled[partition] = records
                self.positions[partition] += len(records)
        if not polled:
            self.at_end()
        return polled

    def _records(self, partition: Any) -> list[Record]:
        topic, number = partition
        if topic == CATALOGUE:
            return self.log.items
        return [Record(number, offset, value) for offset, value in enumerate(self.log.partitions[number])]

    def _end(self, partition: Any) -> int:
        return len(self._records(partition))

    def _beginning(self, partition: Any) -> int:
        return self.log.earliest[partition.partition] if partition.topic == TOPIC else 0

    def _note(self, partition: Any, place: str) -> None:
        if partition.topic == TOPIC:
            self.sought.append(f"{partition.partition}@{place}")

    def close(self) -> None:
        self.closed = True
