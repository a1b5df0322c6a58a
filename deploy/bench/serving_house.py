"""A server's parts around a made model and made users, without a network, for `headwater bench serving`."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import torch

from deploy.follower import Follower, Replica
from deploy.freshness import Freshness
from deploy.inference import Inference
from deploy.sequences import SequenceClient
from deploy.serving import Serving
from model.action_rates import ActionRates
from model.contents import Contents
from model.network import Network, dense_arrays
from model.packed_ids import pack_ids
from model.question import BestItems, GivenItems, Question
from model.settings import ModelSettings
from model.transition_memory import TransitionMemory
from model.value_scale import ValueScale
from storage.manifest import ManifestDraft
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.catalogue import Catalogue
from streams.kafka_settings import KafkaSettings

URL = "http://worker:1"
START_MS = 1_700_000_000_000
SETTINGS = ModelSettings(window=1_024, content_rows=64)
"""The default model, with room for a history of 512 that grows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingPlan:
    """What is measured."""

    items: int = 100_000
    history: int = 512
    """Events of each user whose requests are timed, at first."""
    users: int = 48
    candidates: int = 512
    clients: int = 8
    """Requests under way at one time."""
    requests: int = 64
    """Of each kind in each round."""
    rounds: int = 5
    many_users: int = 10_000
    """Distinct users of the run that memory is watched in; of a quarter of the history, on average."""
    cache_bytes: int = 256 << 20


def made_replica(folder: Path, num_items: int) -> tuple[Follower, Replica]:
    """A published version of random weights, loaded as a server does."""
    generator, draws = torch.Generator().manual_seed(0), np.random.default_rng(0)
    network = Network(SETTINGS)
    network.reset(generator, generator)
    id_bytes, id_ends = pack_ids(["", *map(item_id, range(num_items))])
    live = np.ones(1 + num_items, np.uint8)
    live[0] = 0
    arrays = dense_arrays(network) | ActionRates(len(SETTINGS.actions)).state(1 + num_items) | ValueScale().state()
    arrays |= TransitionMemory().state(1 + num_items) | Contents(1, SETTINGS.content_rows).state()
    arrays |= {"items.id_bytes": id_bytes, "items.id_ends": id_ends, "items.live": live}
    arrays["items.weight"] = draws.normal(size=(1 + num_items, SETTINGS.dim)).astype(np.float32)
    arrays["items.count"] = np.zeros(1 + num_items, np.float32)
    store = SnapshotStore(SnapshotSettings(url=str(folder)))
    config = dataclasses.asdict(SETTINGS) | {"actions": list(SETTINGS.actions)}
    draft = ManifestDraft(run_id="bench", version=1, event_time_ms=START_MS, created_ms=_now_ms(), config=config)
    store.publish({"model": arrays}, draft)
    follower = Follower(store, Freshness(_now_ms), poll_seconds=60)
    follower.poll()
    assert follower.replica is not None, follower.problem
    return follower, follower.replica


def item_id(number: int) -> str:
    """Of a made item."""
    return f"item-{number}"


class BenchWorker(httpx.AsyncBaseTransport):
    """Tells made sequences as a worker does; what it takes to read a store is no part of what is measured."""

    def __init__(self, plan: ServingPlan) -> None:
        self._plan = plan
        self._answers: dict[tuple[str, int, int], bytes] = {}
        self._lengths: dict[str, int] = {}

    def add_event(self, user_id: str) -> None:
        """The user does something."""
        self._lengths[user_id] = self.length(user_id) + 1

    def length(self, user_id: str) -> int:
        """Events of the user."""
        return self._lengths.get(user_id, self._plan.history)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """`/state`, and `/sequence` with `since` or without."""
        if request.url.path == "/state":
            return httpx.Response(200, json={"num_partitions": 1, "partitions": {"0": {"applied": 0}}})
        user_id, digest = request.url.params["user_id"], request.url.params.get("digest", "")
        key = user_id, self.length(user_id), int(digest or 0)
        if key not in self._answers:
            self._answers[key] = msgspec.json.encode(self.columns(*key))
        return httpx.Response(200, content=self._answers[key])

    def columns(self, user_id: str, length: int, kept: int = 0) -> dict[str, Any]:
        """So many events of a user, without the first `kept` ones; the same ones each time."""
        draws = np.random.default_rng(int(user_id))
        items, actions = draws.integers(self._plan.items, size=4_096), draws.integers(4, size=4_096)
        rows = slice(kept, length)
        return {
            "user_id": user_id,
            "partition": 0,
            "epoch": 0,
            "applied": length,
            "action_names": SETTINGS.actions,
            "item_ids": [item_id(number) for number in items[rows].tolist()],
            "ts_ms": [START_MS - 60_000 * (4_096 - place) for place in range(length)[rows]],
            "actions": actions[rows].tolist(),
            "values": [None] * (length - kept),
            "groups": list(range(length))[rows],
            "kept": kept,
            "digest": str(length),
        }


class OneByOne(Inference):
    """A server's thread without batches and caches: each question alone, encoded with its targets, nothing kept."""

    def __init__(self) -> None:
        super().__init__(cache_bytes=0, max_batch=1)

    async def answer(self, replica: Replica, question: Question[Any]) -> Any:
        """The replica's answer."""
        return await self.compute(lambda: self._alone(replica, question))

    @staticmethod
    def _alone(replica: Replica, question: Question[Any]) -> Any:
        model, sequence, now_ms = replica.recommender, question.sequence, question.now_ms
        if isinstance(question, BestItems):
            return model.recommend(sequence, now_ms=now_ms, k=question.k, unavailable=question.unavailable)
        assert isinstance(question, GivenItems)
        return model.rank(sequence, now_ms=now_ms, item_ids=question.item_ids)


def serving_of(follower: Follower, worker: BenchWorker, inference: Inference, held_bytes: int) -> Serving:
    """A server's answers around these; it is not started, as there is nothing to follow."""
    catalogue = Catalogue(KafkaSettings(), "items")
    catalogue.ready = True
    return Serving(
        follower=follower,
        sequences=SequenceClient((URL,), timeout_seconds=10, held_bytes=held_bytes, transport=worker),
        inference=inference,
        catalogue=catalogue,
        freshness=follower.freshness,
        clock_ms=_now_ms,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
