"""Records that expired before the learner took them: which they are, and how that is told."""

import time
from collections.abc import Mapping
from typing import Any


def expired_records(consumer: Any, next_offsets: Mapping[Any, int]) -> dict[Any, range]:
    """Offsets by `TopicPartition` from the next one to be taken on that are gone from the beginning."""
    earliest = consumer.beginning_offsets(list(next_offsets))
    return {
        partition: range(offset, earliest[partition])
        for partition, offset in sorted(next_offsets.items())
        if offset < earliest[partition]
    }


def tell_expired(expired: Mapping[Any, range], created_ms: int) -> str:
    """Which samples are missing, and since when the learner has not taken any; `created_ms` is its newest version's.

    >>> from kafka import TopicPartition
    >>> tell_expired({TopicPartition("samples", 2): range(5, 9)}, 0).split(";")[0]
    'samples expired before they were learned: samples[2] offsets 5 to 8'
    """
    ranges = ", ".join(
        f"{partition.topic}[{partition.partition}] offsets {gone.start} to {gone.stop - 1}"
        for partition, gone in expired.items()
    )
    age_hours = (time.time() * 1000 - created_ms) / 3_600_000
    return (
        f"samples expired before they were learned: {ranges}; the newest version is {age_hours:.1f} h old, and samples "
        "are kept for topics.samples_retention_days"
    )
