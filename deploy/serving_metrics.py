"""The server's metrics, in a registry of their own."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.serving import Serving

REQUEST_BUCKETS_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper edges of the request times' histogram."""


class ServingMetrics(Collector):
    """What the server's parts count and know, read when it is asked for."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "headwater_request_seconds",
            "Time to answer a request.",
            ["path", "status"],
            buckets=REQUEST_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.registry.register(self)
        for part in (serving.freshness, serving.times, serving.hits, serving.inference.seconds):
            self.registry.register(part)

    def collect(self) -> Iterator[Metric]:
        """One family for each count or level."""
        follower, catalogue = self.serving.follower, self.serving.catalogue
        sequences, inference, caches = self.serving.sequences, self.serving.inference, self.serving.inference.caches
        for name, help_text, count in (
            ("snapshots_loaded", "Versions loaded.", follower.num_loaded),
            ("snapshot_failures", "Failed attempts to load a version.", follower.num_failed),
            ("snapshots_reloaded", "Versions read whole as they did not fit.", follower.num_reloaded),
            ("manifests_missed", "Versions gone before their manifest was read.", follower.num_missed),
            ("catalogue_invalid", "Records of the catalogue that were no valid items.", catalogue.num_invalid),
            ("freshness_dropped", "Records never measured.", self.serving.freshness.num_dropped),
            ("inference_batches", "Batches of requests that the model answered.", inference.num_batches),
            ("inference_questions", "Requests in these batches.", inference.num_questions),
            ("user_cache_hits", "Requests of users of whom something was kept.", caches.num_hits),
            ("user_cache_misses", "Requests of users of whom nothing was.", caches.num_misses),
            ("sequence_news", "Answers of workers that told only what was new.", sequences.num_news),
            ("user_cache_evicted", "Users who were dropped for others.", caches.num_evicted),
        ):
            yield CounterMetricFamily(f"headwater_{name}", help_text, value=count)
        yield GaugeMetricFamily("headwater_catalogue_items", "Items in the catalogue.", value=catalogue.num_items)
        yield GaugeMetricFamily("headwater_user_cache_bytes", "What is kept of users.", value=caches.num_bytes)
        told_bytes = sequences.told.num_bytes
        yield GaugeMetricFamily("headwater_sequence_bytes", "Sequences that are held.", value=told_bytes)
        yield from self._by_alias()
        replica = follower.replica
        if replica is not None:
            version = GaugeMetricFamily("headwater_model_version", "The version that answers.", labels=["run_id"])
            version.add_metric([replica.manifest.run_id], replica.manifest.version)
            yield version
            age_seconds = self.serving.age_seconds(replica)
            yield GaugeMetricFamily("headwater_model_age_seconds", "Time since it was cut.", value=age_seconds)
            num_items = replica.recommender.num_items
            yield GaugeMetricFamily("headwater_model_items", "Items that the model knows.", value=num_items)

    def _by_alias(self) -> Iterator[Metric]:
        split = self.serving.split
        pinned = GaugeMetricFamily("headwater_alias_pinned", "1 where the alias is held back.", labels=["alias"])
        moves = GaugeMetricFamily("headwater_alias_generation", "Moves of the alias.", labels=["alias"])
        versions = GaugeMetricFamily("headwater_alias_version", "The alias' version here.", labels=["alias", "run_id"])
        for follower in split.followers:
            if follower.followed is not None:
                pinned.add_metric([follower.alias], follower.followed.pinned)
                moves.add_metric([follower.alias], follower.followed.generation)
            if follower.replica is not None:
                manifest = follower.replica.manifest
                versions.add_metric([follower.alias, manifest.run_id], manifest.version)
        yield from (pinned, moves, versions)
        help_text = "Requests that the champion answered as the canary could not."
        yield CounterMetricFamily("headwater_canary_fallbacks", help_text, value=split.num_fallbacks)


class RequestTimes:
    """ASGI middleware: how long each request took, by the route's path and the answer's status."""

    def __init__(self, app: ASGIApp, request_seconds: Histogram) -> None:
        self.app = app
        self.request_seconds = request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and measure it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self.app(scope, receive, note_status)
        finally:
            path = getattr(scope.get("route"), "path", "unmatched")
            self.request_seconds.labels(path, status).observe(time.perf_counter() - started)
