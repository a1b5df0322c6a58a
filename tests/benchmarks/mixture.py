"""Whether a server under load ever fails or mixes versions while they change, and what the changes cost its answers.

    python -m tests.benchmarks.mixture [--seconds 120] [--items 20000] [--rate 20] [--rounds 5] [--round-seconds 20]

A server, a publisher and the load are processes of their own. Every weight, count and name of a version tells which
version wrote it (`versioned_shop`), so an answer in which anything is of another version than the one that it is
stamped with differs from what that version answers by itself. That is looked at for each answer once the load is over.

1. For so many seconds a version is published every `--interval` seconds under the load.
2. Rounds in pairs, with updates and without, one after the other: the 99th percentile of each, and the ratio.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from deploy.broker import EmbeddedBroker, free_port
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.benchmarks.versioned_shop import LENGTH, NUM_USERS, Oracle, columns_of, publish_version

START_SECONDS = 120.0
_SPAWN = multiprocessing.get_context("spawn")


class Answer(NamedTuple):
    """One answer of the server."""

    user: int
    seconds: float
    version: int
    items: list[tuple[str, float]]


class Load(NamedTuple):
    """What came of a load."""

    answers: list[Answer]
    num_failed: int

    @property
    def p99_ms(self) -> float:
        """99th percentile of the answers' times."""
        return 1_000 * statistics.quantiles([answer.seconds for answer in self.answers], n=100)[98]


class Mixture(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of step 1."""

    num_answers: int
    num_failed: int
    num_mixed: int
    num_alike: int
    """Answers that the version before would have given, too: these would prove nothing."""
    num_versions: int
    """That answered."""
    p99_ms: float


class Shop:
    """A running server over a store, and a publisher that can be told to publish."""

    def __init__(self, url: str, folder: Path, num_items: int, interval_seconds: float) -> None:
        self.url = url
        self.num_items = num_items
        self.updates, self._ending = _SPAWN.Event(), _SPAWN.Event()
        arguments = (str(folder), num_items, interval_seconds, self.updates, self._ending)
        self._publisher = _SPAWN.Process(target=_publish, args=arguments, daemon=True)
        self._publisher.start()

    def close(self) -> None:
        """Let the publisher end."""
        self._ending.set()
        self._publisher.join(30)

    def load(self, seconds: float, rate: float, *, updates: bool) -> Load:
        """Ask at a steady rate for so long, while versions come or not."""
        if updates:
            self.updates.set()
        try:
            return asyncio.run(_load(self.url, seconds, rate))
        finally:
            self.updates.clear()

    def mixture(self, seconds: float, rate: float) -> Mixture:
        """Step 1."""
        load, oracle = self.load(seconds, rate, updates=True), Oracle(self.num_items)
        by_version = sorted(load.answers, key=lambda answer: answer.version)
        mixed = [each for each in by_version if not oracle.agrees(each.version, each.user, each.items)]
        alike = [each for each in by_version if oracle.agrees(each.version - 1, each.user, each.items)]
        return Mixture(
            num_answers=len(load.answers),
            num_failed=load.num_failed,
            num_mixed=len(mixed),
            num_alike=len(alike),
            num_versions=len({each.version for each in by_version}),
            p99_ms=load.p99_ms,
        )


@contextmanager
def shop(num_items: int, interval_seconds: float) -> Iterator[Shop]:
    """Everything started, with a version that answers."""
    with (
        TemporaryDirectory() as name,
        EmbeddedBroker(free_port(), Path(name) / "broker.log") as broker,
        _worker() as worker,
    ):
        folder, port = Path(name) / "snapshots", free_port()
        flags = {
            "--serve.port": str(port),
            "--serve.worker-urls": worker,
            # What a machine with other work takes longer for is late, and not failed.
            "--serve.sequence-timeout-seconds": "20",
            "--snapshots.url": str(folder),
            "--kafka.bootstrap-servers": broker.address,
        }
        command = [sys.executable, "-m", "deploy.cli", "serve", *(text for pair in flags.items() for text in pair)]
        running = Shop(f"http://127.0.0.1:{port}", folder, num_items, interval_seconds)
        with (Path(name) / "server.log").open("ab") as log:
            server = Popen(command, stdout=log, stderr=log)
        try:
            _await_answer(running.url, Path(name) / "server.log")
            yield running
        finally:
            running.close()
            server.terminate()
            server.wait(30)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default in (("--seconds", 120.0), ("--interval", 2.0), ("--rate", 20.0), ("--round-seconds", 20.0)):
        parser.add_argument(flag, type=float, default=default)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with shop(options.items, options.interval) as running:
        running.load(5, options.rate, updates=False)
        ratios = []
        for _ in range(options.rounds):
            calm, busy = (running.load(options.round_seconds, options.rate, updates=on) for on in (False, True))
            ratios.append(busy.p99_ms / calm.p99_ms)
            print(
                f"p99 {calm.p99_ms:.1f} ms without updates, {busy.p99_ms:.1f} with, ratio {ratios[-1]:.2f}; "
                f"{len(calm.answers)} and {len(busy.answers)} answers, {calm.num_failed + busy.num_failed} failed",
                flush=True,
            )
        if ratios:
            print(f"median ratio of {len(ratios)} pairs: {statistics.median(ratios):.2f}", flush=True)
        print(msgspec.json.encode(running.mixture(options.seconds, options.rate)).decode())


def _publish(folder: str, num_items: int, interval_seconds: float, updates: Event, ending: Event) -> None:
    store, version = SnapshotStore(SnapshotSettings(url=folder, max_delta_share=1e9)), 100
    publish_version(store, version, num_items)
    while not ending.is_set():
        if not updates.wait(0.1):
            continue
        due = time.monotonic() + interval_seconds
        version += 1
        publish_version(store, version, num_items)
        ending.wait(max(0.0, due - time.monotonic()))


@contextmanager
def _worker() -> Iterator[str]:
    """A worker's endpoint, in a process of its own."""
    port = free_port()
    process = _SPAWN.Process(target=_answer_as_worker, args=(port,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


def _answer_as_worker(port: int) -> None:
    async def state(_: Request) -> JSONResponse:
        return JSONResponse({"num_partitions": 1, "partitions": {"0": {"applied": 0}}})

    async def sequence(request: Request) -> JSONResponse:
        return JSONResponse(columns_of(int(request.query_params["user_id"][1:])))

    routes = [Route("/state", state), Route("/sequence", sequence)]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="critical")


def _await_answer(url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/recommend", params={"user_id": "u0"}, timeout=30).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"the server does not answer: {log.read_text()[-2_000:]}")


async def _load(url: str, seconds: float, rate: float) -> Load:
    """Requests at fixed times, whether the ones before are answered or not; late answers count from these times."""
    answers: list[Answer] = []
    num_failed = 0

    async def ask(client: httpx.AsyncClient, number: int, due: float) -> None:
        nonlocal num_failed
        user = number % NUM_USERS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        try:
            got = await client.get("/recommend", params={"user_id": f"u{user}", "k": LENGTH})
            got.raise_for_status()
        except httpx.HTTPError:
            num_failed += 1
            return
        told = got.json()
        items = [(item["item_id"], item["score"]) for item in told["items"]]
        version = int(told["model_version"].removeprefix("run/v"))
        answers.append(Answer(user, time.perf_counter() - due, version, items))

    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        begin = time.perf_counter() + 0.2
        await asyncio.gather(*(ask(client, number, begin + number / rate) for number in range(int(seconds * rate))))
    return Load(answers, num_failed)


if __name__ == "__main__":
    main()
