"""The append job as one writes it in Faust: a table that holds a list, kept in RocksDB, changes in a changelog topic.

Run as a process; prints one line of JSON.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import faust

from deploy.bench.processes import rss_mb

CAP = 1_000
EVERY = 20
CONTEXT = 128


async def run(bootstrap: str, topic: str, samples: str, partitions: int, folder: str, events: int) -> None:
    """Take in so many events, then print how long it took from the first on."""
    app = faust.App(
        f"faust-{Path(folder).name}",
        broker=f"kafka://{bootstrap}",
        store="rocksdb://",
        datadir=folder,
        autodiscover=False,
        consumer_auto_offset_reset="earliest",
        topic_partitions=partitions,
        topic_replication_factor=1,
        web_enabled=False,
    )
    source = app.topic(topic, key_type=bytes, key_serializer="raw", value_serializer="json")
    sink = app.topic(samples, value_serializer="json")
    table: Any = app.Table("sequences", default=dict, partitions=partitions)
    done = asyncio.Event()
    times: list[float] = []

    async def append(stream: faust.StreamT[Any]) -> None:
        count = 0
        async for event in stream:
            if not times:
                times.append(time.perf_counter())
            user = event["user_id"]
            row = table[user] or {"num": 0, "events": []}
            row["num"] += 1
            row["events"].append([event["item_id"], event["action"], event["ts_ms"]])
            del row["events"][:-CAP]
            table[user] = row
            if row["num"] % EVERY == 0:
                await sink.send(key=user, value=row["events"][-CONTEXT:])
            count += 1
            if count == events:
                times.append(time.perf_counter())
                done.set()

    app.agent(source)(append)
    await app.start()
    await done.wait()
    await app.stop()
    figures = {"events": events, "seconds": times[1] - times[0], "peak_rss_mb": rss_mb(os.getpid(), peak=True)}
    print(json.dumps(figures))  # noqa: T201 - what the bench reads


if __name__ == "__main__":
    _bootstrap, _topic, _samples, _partitions, _folder, _events = sys.argv[1:]
    asyncio.run(run(_bootstrap, _topic, _samples, int(_partitions), _folder, int(_events)))
