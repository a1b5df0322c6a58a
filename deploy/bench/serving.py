"""`headwater bench serving`: lists and scores of a real server app on one core, with what is kept of users and without.

A worker is stood in for, in the process. What is timed is the server: its HTTP layer without sockets, and the clients,
which take turns with it on the one core.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
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
from model.question import BestItems, GivenItems, Question

Say = Callable[[str], None]
HELD_BYTES = 64 << 20
WITHOUT, NOTHING_KEPT, WITH = "as without all of it", "batches, nothing kept", "batches, users kept"
KINDS = {
    "GET /recommend": (BestItems, True, False),
    "GET /recommend, each after an event": (BestItems, True, True),
    "POST /rank": (GivenItems, True, False),
    "best items, the model alone": (BestItems, False, False),
    "512 candidates, the model alone": (GivenItems, False, False),
    "512 candidates, the model alone, each after an event": (GivenItems, False, True),
}
"""What is asked, whether of the app, and whether the user did something just before."""


@dataclass(slots=True)
class _Round:
    """What the requests of a kind took."""

    seconds: float
    cpu_seconds: float
    each_seconds: list[float]


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

    def __init__(self, plan: ServingPlan, follower: Follower, inference: Inference, held_bytes: int) -> None:
        self._plan = plan
        self._worker = BenchWorker(plan)
        self.serving: Serving = serving_of(follower, self._worker, inference, held_bytes)
        transport = httpx.ASGITransport(create_app(self.serving))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://server", timeout=600)

    async def close(self) -> None:
        await self._http.aclose()
        await self.serving.sequences.aclose()
        self.serving.inference.stop()

    async def timed(self, kind: str, seed: int) -> _Round:
        """Ask all requests of a kind, some at a time."""
        draws, taken = np.random.default_rng(seed), list[float]()
        waiting = [
            self._request(kind, str(draws.integers(self._plan.users)), draws) for _ in range(self._plan.requests)
        ]

        async def client() -> None:
            while waiting:
                ask = waiting.pop(0)
                started = time.perf_counter()
                await ask()
                taken.append(time.perf_counter() - started)

        started, cpu_started = time.perf_counter(), time.process_time()
        await asyncio.gather(*(client() for _ in range(self._plan.clients)))
        return _Round(time.perf_counter() - started, time.process_time() - cpu_started, taken)

    def _request(self, kind: str, user_id: str, draws: np.random.Generator) -> Callable[[], Awaitable[None]]:
        what, of_app, after_event = KINDS[kind]
        if after_event:
            self._worker.add_event(user_id)
        item_ids = [item_id(number) for number in draws.integers(self._plan.items, size=self._plan.candidates).tolist()]
        if of_app:
            return partial(self._ask_app, what, user_id, item_ids)
        sequence = SequenceColumns(**self._worker.columns(user_id, self._worker.length(user_id))).to_sequence()
        now_ms = START_MS + int(draws.integers(10**7))
        if what is BestItems:
            return partial(self._ask_model, BestItems(sequence=sequence, now_ms=now_ms, k=10))
        return partial(self._ask_model, GivenItems(sequence=sequence, now_ms=now_ms, item_ids=item_ids))

    async def _ask_app(self, what: type[Question[Any]], user_id: str, item_ids: list[str]) -> None:
        if what is BestItems:
            answer = await self._http.get("/recommend", params={"user_id": user_id, "k": 10})
        else:
            answer = await self._http.post("/rank", json={"user_id": user_id, "item_ids": item_ids})
        answer.raise_for_status()

    async def _ask_model(self, question: Question[Any]) -> None:
        replica = self.serving.follower.replica
        assert replica is not None
        await self.serving.inference.answer(replica, question)


async def _rates(plan: ServingPlan, follower: Follower, say: Say) -> dict[str, Any]:
    ways = {
        WITHOUT: _Asker(plan, follower, OneByOne(), 0),
        NOTHING_KEPT: _Asker(plan, follower, Inference(cache_bytes=0, max_batch=32), 0),
        WITH: _Asker(plan, follower, Inference(cache_bytes=plan.cache_bytes, max_batch=32), HELD_BYTES),
    }
    rounds: dict[tuple[str, str], list[_Round]] = {(kind, way): [] for kind in KINDS for way in ways}
    for number in range(plan.rounds + 1):
        for kind, way in rounds:
            taken = await ways[way].timed(kind, number)
            if number:  # the first is for warming up
                rounds[kind, way].append(taken)
    for asker in ways.values():
        await asker.close()
    return {kind: {way: _figures(plan, kind, way, rounds, say) for way in ways} for kind in KINDS}


def _figures(
    plan: ServingPlan, kind: str, way: str, rounds: dict[tuple[str, str], list[_Round]], say: Say
) -> dict[str, float]:
    """Medians of the rounds; processor time is what other processes of the machine change least."""
    mine, without = rounds[kind, way], rounds[kind, WITHOUT]
    each = [seconds for taken in mine for seconds in taken.each_seconds]
    p50_ms, p99_ms = (float(np.quantile(each, share)) * 1e3 for share in (0.5, 0.99))
    figures = {
        "per_second": plan.requests / statistics.median(taken.seconds for taken in mine),
        "per_cpu_second": plan.requests / statistics.median(taken.cpu_seconds for taken in mine),
        "ratio": statistics.median(a.seconds / b.seconds for a, b in zip(without, mine, strict=True)),
        "cpu_ratio": statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in zip(without, mine, strict=True)),
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
    }
    say(f"{kind}; {way}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    return figures


async def _memory(plan: ServingPlan, replica: Replica, say: Say) -> dict[str, Any]:
    """What many users take, each asked for once, and what the process grew by."""
    inference, worker = Inference(cache_bytes=plan.cache_bytes, max_batch=32), BenchWorker(plan)
    lengths = np.random.default_rng(0).integers(1, plan.history // 2, size=plan.many_users).tolist()
    before, most = reset_peak_memory(), 0

    async def ask(number: int) -> None:
        sequence = SequenceColumns(**worker.columns(str(number), lengths[number])).to_sequence()
        await inference.answer(replica, GivenItems(sequence=sequence, now_ms=START_MS, item_ids=[item_id(number)]))

    for first in range(0, plan.many_users, plan.clients):
        await asyncio.gather(*(ask(number) for number in range(first, min(first + plan.clients, plan.many_users))))
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
