"""A server's parts put together without a network and without Kafka, for the tests of its answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.follower import Follower
from deploy.freshness import Freshness
from deploy.inference import Inference
from deploy.sequences import SequenceClient
from deploy.serve_settings import ServeSettings
from deploy.server import create_app
from deploy.serving import Serving
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.catalogue import Catalogue
from streams.items import Item
from streams.kafka_settings import KafkaSettings
from tests.deploy.models import ITEM_IDS, NOW_MS, publish
from tests.deploy.workers import URLS, Workers

EVENT_MS = 50_000
"""Time of the newest event that a version has learned."""


class House:
    """A server's parts: a real store, follower and model, workers without a network, a catalogue without Kafka."""

    def __init__(self, folder: Path, **rules: Any) -> None:
        self.store = SnapshotStore(SnapshotSettings(url=str(folder), keep=100))
        self.workers = Workers()
        self.workers.body = {"item_ids": list(ITEM_IDS[:2])}
        self.catalogue = Catalogue(KafkaSettings(), "items")
        self.catalogue.ready = True
        freshness = Freshness(lambda: NOW_MS)
        self.follower = Follower(self.store, freshness, poll_seconds=60)
        settings, alias = ServeSettings(**rules), rules.get("canary_alias")
        self.canary = None
        if alias:
            self.canary = Follower(self.store, Freshness(lambda: NOW_MS), poll_seconds=60, alias=alias)
        self.serving = Serving(
            follower=self.follower,
            sequences=SequenceClient(URLS, timeout_seconds=0.5, transport=self.workers),
            inference=Inference(cache_bytes=1 << 20, max_batch=8),
            catalogue=self.catalogue,
            freshness=freshness,
            clock_ms=lambda: NOW_MS,
            rules=settings,
            canary=self.canary,
        )

    def publish(self, version: int, **changes: Any) -> None:
        publish(self.store, version, event_time_ms=EVENT_MS, **changes)
        assert self.follower.poll()

    def know(self, *items: Item) -> None:
        """Let this be the catalogue, all of it as new as can be."""
        self.catalogue._newest = [(NOW_MS, item.item_id) for item in items]
        self.catalogue._items = {item.item_id: item for item in items}
        self.catalogue.unavailable = frozenset(item.item_id for item in items if not item.available)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(create_app(self.serving))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
                yield client
        finally:
            await self.serving.stop()

    def ask(self, path: str, **params: Any) -> httpx.Response:
        return self.send("GET", path, params=params)

    def ask_each(self, *asked: tuple[str, dict[str, Any]]) -> list[httpx.Response]:
        """What is answered to (path, parameters), one after the other."""

        async def ask() -> list[httpx.Response]:
            async with self.client() as client:
                return [await client.get(path, params=params) for path, params in asked]

        return asyncio.run(ask())

    def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(send())
