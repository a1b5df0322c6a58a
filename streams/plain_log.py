"""Reading a whole topic with a plain consumer, from its beginning to its present end."""

import time
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types

from storage.errors import SetupError
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.topics import existing_topic

IDLE_SECONDS = 1.5
"""Once the reported ends are reached and nothing came for so long, the end is reached."""


def read_topic(kafka: KafkaSettings, topic: str) -> Iterator[Any]:
    """All committed records of a topic, those of a partition in order; raises `SetupError` where it cannot be read.

    A broker may report an end that lies before the last records (Tansu reports the base of the last batch), so the
    end counts as reached only once nothing more comes.
    """
    description = existing_topic(kafka, topic)
    partitions = [TopicPartition(topic, number) for number in range(description.num_partitions)]
    consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False, isolation_level="read_committed")
    try:
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        yield from _until_idle(consumer, partitions)
    finally:
        consumer.close()


def _until_idle(consumer: Any, partitions: list[TopicPartition]) -> Iterator[Any]:
    ends = consumer.end_offsets(partitions)
    heard = time.monotonic()
    while True:
        for records in consumer.poll(timeout_ms=200, max_records=2_000).values():
            heard = time.monotonic()
            yield from records
        at_end = all(consumer.position(partition) >= ends[partition] for partition in partitions)
        if at_end and time.monotonic() - heard > IDLE_SECONDS:
            return
        if time.monotonic() - heard > 20 * IDLE_SECONDS:
            raise SetupError(f"{partitions[0].topic} stopped answering before its end; is the broker still there?")
