"""Resident memory of a worker whose agent takes no chunk for a while, with a long log before it, and then goes on.

    KAFKA_HOME=... python -m tests.benchmarks.stalled_agent [--events 2000000] [--stall 20]

The broker is started here. Prints one JSON object: memory by second of the stall, its growth after the first seconds.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faust

from deploy.bench.bench_broker import BenchBroker, bench_broker
from deploy.bench.event_log import EventLog, produce
from deploy.bench.processes import rss_mb
from deploy.bench.streams import CONTEXT, own_store
from deploy.broker import free_port
from streams.chunk_app import end_on_signals
from streams.figures import get_json
from streams.kafka_settings import KafkaSettings
from streams.worker import Worker
from streams.worker_settings import WorkerSettings

SETTLED_SECONDS = 5.0
"""From when on in the stall all buffers are full."""
LIMIT_SECONDS = 900.0


class StalledWorker(Worker):
    """Its agent waits before it takes the first chunk."""

    stall_seconds = 0.0

    async def _sequences(self, chunks: faust.StreamT[object]) -> None:
        await asyncio.sleep(self.stall_seconds)
        await super()._sequences(chunks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--stall", type=float, default=20.0)
    arguments = parser.parse_args()
    log = EventLog(name="stalled", events=arguments.events, users=5_000, event_ids=True)
    with tempfile.TemporaryDirectory() as folder, bench_broker(Path(os.environ["KAFKA_HOME"]), Path(folder)) as broker:
        produce(log, broker.kafka)
        print(json.dumps(measure(log, broker, arguments.stall), indent=2))


def measure(log: EventLog, broker: BenchBroker, stall: float) -> dict[str, object]:
    """Memory while the agent stands still, and while it catches up."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.stalled_agent", "worker"]
    process = subprocess.Popen(
        [*command, json.dumps([broker.kafka.bootstrap_servers, port, str(broker.folder), stall])]
    )
    try:
        state = f"http://127.0.0.1:{port}/state"
        wait_for(lambda: len((get_json(state) or {}).get("partitions", ())) == log.partitions)
        started = time.monotonic()
        stalled = []
        while applied(state) == 0:
            stalled.append((time.monotonic() - started, rss_mb(process.pid)))
            time.sleep(0.25)
        running = []
        while applied(state) < log.events:
            running.append(rss_mb(process.pid))
            time.sleep(0.25)
    finally:
        process.terminate()
        process.wait(60)
    settled = [rss for second, rss in stalled if second >= SETTLED_SECONDS]
    return {
        "stalled_seconds": round(stalled[-1][0], 1),
        "mb_by_second": {round(second): round(rss, 1) for second, rss in stalled},
        "growth_once_settled": round(settled[-1] / settled[0] - 1, 4),
        "peak_mb_stalled": round(max(rss for _, rss in stalled), 1),
        "peak_mb_running": round(max(running, default=0.0), 1),
    }


def applied(state: str) -> int:
    """Records applied so far."""
    partitions = (get_json(state) or {}).get("partitions", {})
    return sum(int(each["applied"]) + 1 for each in partitions.values())


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker holds no partitions")
        time.sleep(0.1)


async def work(bootstrap_servers: list[str], port: int, folder: str, stall: float) -> None:
    """A worker with a stalled agent."""
    StalledWorker.stall_seconds = stall
    log = EventLog(name="stalled", events=1, users=1, event_ids=True)
    worker = StalledWorker(
        KafkaSettings(bootstrap_servers=tuple(bootstrap_servers), group="stalled"),
        log.topics,
        own_store("whole", Path(folder) / "state"),
        WorkerSettings(sample_events=CONTEXT, web_port=port),
    )
    end_on_signals(worker.ending)
    await worker.run()


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(work(*json.loads(sys.argv[2])))
    else:
        main()
