"""The ceiling of any Python job on aiokafka: consume and decode, and do nothing with it.

Run as a process; prints one line of JSON.
"""

import asyncio
import json
import os
import sys
import time

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # aiokafka ships no types

from deploy.bench.processes import rss_mb


class RawAction(msgspec.Struct):
    """The fields of an action, unchecked."""

    type: str
    user_id: str
    item_id: str
    ts_ms: int
    action: str


async def run(bootstrap: str, topic: str, partitions: int, events: int) -> None:
    """Take in so many events, then print how long it took from the first on."""
    decode = msgspec.json.Decoder(RawAction).decode
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
    await consumer.seek_to_beginning()
    count, first = 0, 0.0
    while count < events:
        fetched = await consumer.getmany(timeout_ms=1_000, max_records=4_000)
        first = first or (time.perf_counter() if fetched else 0.0)
        for records in fetched.values():
            for record in records:
                decode(record.value)
            count += len(records)
    seconds = time.perf_counter() - first
    await consumer.stop()
    figures = {"events": count, "seconds": seconds, "peak_rss_mb": rss_mb(os.getpid(), peak=True)}
    print(json.dumps(figures))  # noqa: T201 - what the bench reads


if __name__ == "__main__":
    _bootstrap, _topic, _partitions, _events = sys.argv[1:]
    asyncio.run(run(_bootstrap, _topic, int(_partitions), int(_events)))
