"""Samples that expired before the learner took them: which they are, and how that is told."""

import time
from collections.abc import Mapping
from typing import Any

from kafka import TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types


def expired_samples(consumer: Any, topic: str, next_offsets: Mapping[int, int]) -> dict[int, range]:
    """Offsets of each partition from the next one to be taken on that are gone from the topic's beginning."""
    partitions = [TopicPartition(topic, number) for number in next_offsets]
    earliest = {partition.partition: offset for partition, offset in consumer.beginning_offsets(partitions).items()}
    return {
        number: range(offset, earliest[number])
        for number, offset in sorted(next_offsets.items())
        if offset < earliest[number]
    }


def tell_expired(topic: str, expired: Mapping[int, range], created_ms: int) -> str:
    """Which samples are missing, and since when the learner has not taken any; `created_ms` is its newest version's.

    >>> tell_expired("samples", {2: range(5, 9)}, 0).split(";")[0]
    'samples expired before they were learned: samples[2] offsets 5 to 8'
    """
    ranges = ", ".join(f"{topic}[{number}] offsets {gone.start} to {gone.stop - 1}" for number, gone in expired.items())
    age_hours = (time.time() * 1000 - created_ms) / 3_600_000
    return (
        f"samples expired before they were learned: {ranges}; the newest version is {age_hours:.1f} h old, and samples "
        "are kept for topics.samples_retention_days"
    )
