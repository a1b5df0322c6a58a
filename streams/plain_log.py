"""Reading a whole topic with a plain consumer, from its beginning to its present end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types

from storage.errors import SetupError
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.topics import existing_topic

IDLE_SECONDS = 1.5
"""How long reading goes on after the reported ends are reached."""


def read_topic(kafka: KafkaSettings, topic: str) -> Iterator[Any]:
    """All committed records of a topic, those of a partition in order; raises `SetupError` where it cannot be read.

    A broker may report an end that lies before the last records (Tansu reports the base of the last batch), so reading
    goes on for a moment after that; what comes meanwhile is read, too.
    """
    description = existing_topic(kafka, topic)
    partitions = [TopicPartition(topic, number) for number in range(description.num_partitions)]
    with _consumer(kafka, partitions) as consumer:
        consumer.seek_to_beginning(*partitions)
        yield from _until(consumer, consumer.end_offsets(partitions), IDLE_SECONDS)


def first_offsets(kafka: KafkaSettings, topic: str) -> dict[int, int]:
    """Where each partition of a topic begins that does not begin at 0, as its first records have expired."""
    description = existing_topic(kafka, topic)
    partitions = [TopicPartition(topic, number) for number in range(description.num_partitions)]
    with _consumer(kafka, partitions) as consumer:
        found = consumer.beginning_offsets(partitions)
    return {partition.partition: offset for partition, offset in found.items() if offset}


def read_range(kafka: KafkaSettings, topic: str, first: Mapping[int, int], last: Mapping[int, int]) -> Iterator[Any]:
    """The committed records from the first to the last offset, both included, of each partition of `first`."""
    partitions = {TopicPartition(topic, number): offset for number, offset in first.items()}
    with _consumer(kafka, list(partitions)) as consumer:
        for partition, offset in partitions.items():
            consumer.seek(partition, offset)
        ends = {partition: last[partition.partition] + 1 for partition in partitions}
        for record in _until(consumer, ends, 0.0):
            if record.offset <= last[record.partition]:
                yield record


@contextmanager
def _consumer(kafka: KafkaSettings, partitions: list[Any]) -> Iterator[Any]:
    consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False, isolation_level="read_committed")
    try:
        consumer.assign(partitions)
        yield consumer
    finally:
        consumer.close()


def _until(consumer: Any, ends: Mapping[Any, int], more_seconds: float) -> Iterator[Any]:
    """What is read until all these ends are reached, and for so long after."""
    heard, reached = time.monotonic(), None
    while reached is None or time.monotonic() - reached < more_seconds:
        for records in consumer.poll(timeout_ms=200, max_records=2_000).values():
            heard = time.monotonic()
            yield from records
        if reached is None and all(consumer.position(partition) >= end for partition, end in ends.items()):
            reached = time.monotonic()
        if reached is None and time.monotonic() - heard > 20 * IDLE_SECONDS:
            (topic, *_) = {partition.topic for partition in ends}
            raise SetupError(f"{topic} stopped answering before its end; is the broker still there?")
