"""`headwater bench serving`: lists and scores of a real server app on one core, with what is kept of users and without.

A worker is stood in for, in the process. What is timed is the server: its HTTP layer without sockets, and the clients,
which take turns with it on the one core.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch

from deploy.bench.peak_memory import peak_memory_bytes, reset_peak_memory
from deploy.bench.serving_house import (
    START_MS,
    BenchWorker,
    OneByOne,
    ServingPlan,
    item_id,
    made_replica,
    serving_of,
)
from deploy.follower import Follower, Replica
from deploy.inference import Inference
from deploy.sequence_columns import SequenceColumns
from deploy.server import create_app
from deploy.serving import Serving
from model.question import GivenItems

Say = Callable[[str], None]
HELD_BYTES = 64 << 20
WITHOUT, NOTHING_KEPT, WITH = "as without all of it", "batches, nothing kept", "batches, users kept"
KINDS = {
    "GET /recommend": ("recommend", True, False),
    "GET /recommend, each after an event": ("recommend", True, True),
    "POST /rank": ("rank", True, False),
    "512 candidates scored": ("rank", False, False),
    "512 candidates scored, each after an event": ("rank", False, True),
}
"""What is asked, whether over HTTP, and whether the user did something just before."""


def run_serving_bench(plan: ServingPlan, say: Say) -> dict[str, Any]:
    """Times and rates in turns, medians of the rounds; then memory under many users."""
    torch.set_num_threads(1)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        with tempfile.TemporaryDirectory() as folder:
            follower, replica = made_replica(Path(folder), plan.items)
            figures = asyncio.run(_rates(plan, follower, say))
            return figures | {"memory": asyncio.run(_memory(plan, replica, say))}
    finally:
        os.sched_setaffinity(0, cores)


class _Asker:
    """One way to serve, and requests to it."""

    def __init__(self, plan: ServingPlan, follower: Follower, inference: Inference | OneByOne, held_bytes: int) -> None:
        self._plan = plan
        self._worker = BenchWorker(plan)
        self.serving: Serving = serving_of(follower, self._worker, inference, held_bytes)
        transport = httpx.ASGITransport(create_app(self.serving))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://server", timeout=600)

    async def close(self) -> None:
        await self._http.aclose()
        await self.serving.sequences.aclose()
        self.serving.inference.stop()

    async def timed(self, kind: str, seed: int) -> tuple[float, list[float]]:
        """Seconds that all requests of a kind took, and each of them."""
        draws, taken = np.random.default_rng(seed), list[float]()
        waiting = [(str(draws.integers(self._plan.users)), draws) for _ in range(self._plan.requests)]

        async def client() -> None:
            while waiting:
                user_id, _ = waiting.pop()
                started = time.perf_counter()
                await self._ask(kind, user_id, draws)
                taken.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(self._plan.clients)))
        return time.perf_counter() - started, taken

    async def _ask(self, kind: str, user_id: str, draws: np.random.Generator) -> None:
        what, over_http, after_event = KINDS[kind]
        if after_event:
            self._worker.add_event(user_id)
        item_ids = [item_id(number) for number in draws.integers(self._plan.items, size=self._plan.candidates).tolist()]
        if what == "recommend":
            answer = await self._http.get("/recommend", params={"user_id": user_id, "k": 10})
            answer.raise_for_status()
        elif over_http:
            answer = await self._http.post("/rank", json={"user_id": user_id, "item_ids": item_ids})
            answer.raise_for_status()
        else:
            replica, columns = self.serving.follower.replica, await self.serving.sequences.read(user_id)
            assert replica is not None
            now_ms = START_MS + int(draws.integers(10**7))
            question = GivenItems(sequence=columns.to_sequence(), now_ms=now_ms, item_ids=item_ids)
            await self.serving.inference.answer(replica, question)


async def _rates(plan: ServingPlan, follower: Follower, say: Say) -> dict[str, Any]:
    ways = {
        WITHOUT: _Asker(plan, follower, OneByOne(), 0),
        NOTHING_KEPT: _Asker(plan, follower, Inference(cache_bytes=0, max_batch=32), 0),
        WITH: _Asker(plan, follower, Inference(cache_bytes=plan.cache_bytes, max_batch=32), HELD_BYTES),
    }
    seconds: dict[tuple[str, str], list[float]] = {(kind, way): [] for kind in KINDS for way in ways}
    latencies: dict[tuple[str, str], list[float]] = {key: [] for key in seconds}
    for number in range(plan.rounds + 1):
        for kind, way in seconds:
            took, each = await ways[way].timed(kind, number)
            if number:  # the first is for warming up
                seconds[kind, way].append(took)
                latencies[kind, way].extend(each)
    for asker in ways.values():
        await asker.close()
    return {kind: _figures(plan, kind, list(ways), seconds, latencies, say) for kind in KINDS}


def _figures(
    plan: ServingPlan,
    kind: str,
    ways: list[str],
    seconds: dict[tuple[str, str], list[float]],
    latencies: dict[tuple[str, str], list[float]],
    say: Say,
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for way in ways:
        ratios = [before / now for before, now in zip(seconds[kind, WITHOUT], seconds[kind, way], strict=True)]
        p50_ms, p99_ms = (float(np.quantile(latencies[kind, way], share)) * 1e3 for share in (0.5, 0.99))
        rate = plan.requests / statistics.median(seconds[kind, way])
        figures[way] = {
            "per_second": rate,
            "times_the_first": statistics.median(ratios),
            "p50_ms": p50_ms,
            "p99_ms": p99_ms,
        }
        say(f"{kind}, {way}: {rate:.1f}/s ({statistics.median(ratios):.2f}x), p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms")
    return figures


async def _memory(plan: ServingPlan, replica: Replica, say: Say) -> dict[str, Any]:
    """What many users take, each asked for once, and what the process grew by."""
    inference, worker = Inference(cache_bytes=plan.cache_bytes, max_batch=32), BenchWorker(plan)
    lengths = np.random.default_rng(0).integers(1, plan.history // 2, size=plan.many_users)
    before, most = reset_peak_memory(), 0
    for number, length in enumerate(lengths.tolist()):
        sequence = SequenceColumns(**worker.columns(str(number), length)).to_sequence()
        question = GivenItems(sequence=sequence, now_ms=START_MS, item_ids=[item_id(number)])
        await inference.answer(replica, question)
        most = max(most, inference.caches.num_bytes)
    inference.stop()
    figures = {
        "users": plan.many_users,
        "limit_bytes": plan.cache_bytes,
        "most_counted_bytes": most,
        "users_held": len(inference.caches),
        "process_grew_bytes": peak_memory_bytes() - before,
    }
    say(", ".join(f"{name} {value:,}" for name, value in figures.items()))
    return figures
