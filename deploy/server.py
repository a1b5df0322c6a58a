"""The serving process: HTTP routes, start and stop."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import torch
import uvicorn
from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from deploy.answers import (
    BatchAnswer,
    BatchRequest,
    Delays,
    ErrorAnswer,
    ExplainAnswer,
    FreshnessAnswer,
    HealthAnswer,
    Id,
    MinVersion,
    RankAnswer,
    RankRequest,
    RecommendAnswer,
    SequenceAnswer,
)
from deploy.body_limit import MAX_BODY_BYTES, BodyLimit
from deploy.broker import require_free_port
from deploy.follower import Follower
from deploy.freshness import Freshness
from deploy.id_in_path import register_id_in_path
from deploy.inference import Inference
from deploy.load_limit import RETRY_AFTER_SECONDS, LoadLimit
from deploy.page_clicks import Clicks
from deploy.page_routes import add_page
from deploy.page_series import PageSeries, RecentUsers, recent_users
from deploy.sequences import SequenceClient, SequenceUnavailableError
from deploy.serve_settings import MAX_EXPLAINED, MAX_K, ServeSettings
from deploy.serving import NotReadyError, OlderVersionError, Serving
from deploy.serving_metrics import RequestTimes, ServingMetrics
from deploy.token_check import TokenCheck
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.announcements import Announcements
from streams.catalogue import Catalogue
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings, describe_topic

STOP_SECONDS = 5
"""How long requests under way may take when the server is told to stop."""
MAX_EVENTS = 1_000
"""Longest sequence that a request may ask for."""

_BUSY: dict[int | str, dict[str, Any]] = {
    503: {
        "model": ErrorAnswer,
        "description": "Nothing can be answered now",
        "headers": {
            "Retry-After": {"description": "Seconds to wait before asking again", "schema": {"type": "integer"}}
        },
    }
}
_TOKEN: dict[int | str, dict[str, Any]] = {
    401: {
        "model": ErrorAnswer,
        "description": "A token is needed, where the server has one",
        "headers": {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
    }
}
_ERRORS = _BUSY | _TOKEN | {422: {"model": ErrorAnswer, "description": "The request is not valid"}}
_MODEL_ERRORS = _ERRORS | {
    409: {"model": ErrorAnswer, "description": "The version that is asked for at least does not answer yet"}
}
_BODY_ERRORS = _MODEL_ERRORS | {
    400: {"model": ErrorAnswer, "description": "The body is no UTF-8"},
    413: {"model": ErrorAnswer, "description": f"The body is larger than {MAX_BODY_BYTES} bytes"},
}


def create_app(
    serving: Serving,
    serve: ServeSettings = ServeSettings(),  # noqa: B008 - frozen
    clicks: Clicks | None = None,
) -> FastAPI:
    """The HTTP application around `serving`, which it starts and stops; of the settings, who may ask and how much.

    `clicks` sends what is done on the live page.
    """
    series, users = PageSeries(serving.follower, serving.freshness, serving.clock_ms), recent_users()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        serving.start()
        watching = asyncio.create_task(series.watch())
        try:
            yield
        finally:
            watching.cancel()
            await serving.stop()
            if clicks is not None:
                await asyncio.to_thread(clicks.close)

    metrics = ServingMetrics(serving)
    app = FastAPI(
        title="Headwater",
        description="Recommendations from a model that learns from the stream it serves.",
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimit)
    app.add_middleware(RecentUsers, users=users)
    app.add_middleware(LoadLimit, most=serve.max_requests)
    app.add_middleware(TokenCheck, token=serve.token)
    app.add_middleware(RequestTimes, request_seconds=metrics.request_seconds)
    app.add_exception_handler(HTTPException, _answer_refused)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(NotReadyError, _answer_unavailable)
    app.add_exception_handler(OlderVersionError, _answer_older)
    app.add_exception_handler(SequenceUnavailableError, _answer_unavailable)
    _add_answers(app, serving)
    _add_reports(app, serving, metrics)
    add_page(app, serving, series, users, clicks)
    return app


def run_server(serve: ServeSettings, kafka: KafkaSettings, topics: TopicSettings, snapshots: SnapshotSettings) -> int:
    """Serve until SIGINT or SIGTERM, then return 0; raises `SetupError` for a port in use or no broker."""
    require_free_port(serve.host, serve.port, "serve.port")
    describe_topic(kafka, topics.items)
    torch.set_num_threads(serve.num_threads)
    # One line for each request to a worker would be one for each answer.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    clicks = Clicks(kafka, topics.events) if serve.page_clicks else None
    app = create_app(_serving(serve, kafka, topics, snapshots), serve, clicks)
    config = uvicorn.Config(
        app,
        host=serve.host,
        port=serve.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=serve.tls_certificate,
        ssl_keyfile=serve.tls_key,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signals it caught once more after its clean stop; these handlers take them.
    former = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    return 0


def _serving(serve: ServeSettings, kafka: KafkaSettings, topics: TopicSettings, snapshots: SnapshotSettings) -> Serving:
    store = SnapshotStore(snapshots)

    def follower(alias: str) -> Follower:
        made = Follower(
            store, Freshness(_now_ms), poll_seconds=serve.poll_seconds, exact_items=serve.exact_items, alias=alias
        )
        made.announcements = Announcements(kafka, topics.snapshots, snapshots.model, made.look)
        return made

    champion = follower(serve.alias)
    return Serving(
        follower=champion,
        canary=follower(serve.canary_alias) if serve.canary_alias else None,
        sequences=SequenceClient(
            serve.worker_urls,
            timeout_seconds=serve.sequence_timeout_seconds,
            access=serve.worker_access,
            held_bytes=serve.sequence_bytes,
        ),
        inference=Inference(cache_bytes=serve.cache_bytes, max_batch=serve.max_batch),
        catalogue=Catalogue(kafka, topics.items),
        freshness=champion.freshness,
        clock_ms=_now_ms,
        rules=serve,
    )


def _add_answers(app: FastAPI, serving: Serving) -> None:
    @app.get("/recommend", responses=_MODEL_ERRORS)
    async def recommend(
        user_id: Annotated[Id, Query()],
        k: Annotated[int, Query(ge=1, le=MAX_K, description="Length of the list")] = 10,
        min_version: Annotated[MinVersion | None, Query()] = None,
    ) -> RecommendAnswer:
        """The best items for the user now; a user without events gets what the model gives any newcomer."""
        return await serving.recommend(user_id, k, min_version)

    @app.post("/batch", responses=_BODY_ERRORS)
    async def batch(request: BatchRequest) -> BatchAnswer:
        """The best items for each of several users; one who cannot be answered has an error of its own."""
        return await serving.batch(request.user_ids, request.k, request.min_version)

    @app.post("/rank", responses=_BODY_ERRORS)
    async def rank(request: RankRequest) -> RankAnswer:
        """The probability of each action of the user on each of the given items."""
        return await serving.rank(request.user_id, request.item_ids, request.min_version)

    @app.get("/explain", responses=_MODEL_ERRORS)
    async def explain(
        user_id: Annotated[Id, Query()],
        item_id: Annotated[Id, Query()],
        last: Annotated[int, Query(ge=1, le=MAX_EXPLAINED, description="Newest events that are looked at")] = 16,
        min_version: Annotated[MinVersion | None, Query()] = None,
    ) -> ExplainAnswer:
        """Why the item has its score for the user now: its parts, and what each of the newest events has changed."""
        return await serving.explain(user_id, item_id, last, min_version)

    register_id_in_path()

    @app.get("/users/{user_id:id}/sequence", responses=_ERRORS)
    async def sequence(
        user_id: Annotated[Id, Path()],
        last: Annotated[int, Query(ge=1, le=MAX_EVENTS, description="Most events")] = 100,
    ) -> SequenceAnswer:
        """The user's newest events, as the next answer would see them."""
        return await serving.sequence(user_id, last)


def _add_reports(app: FastAPI, serving: Serving, metrics: ServingMetrics) -> None:
    @app.get("/healthz", responses=_BUSY)
    async def healthz() -> HealthAnswer:
        """200 once a model is loaded and the catalogue has been read, 503 before."""
        return serving.health()

    @app.get("/freshness", responses=_BUSY | _TOKEN)
    async def freshness() -> FreshnessAnswer:
        """How long events took into the weights that answer."""
        replica = serving.follower.replica
        measured = serving.freshness
        return FreshnessAnswer(
            event_to_weights=Delays.of(measured.whole),
            parts={part: Delays.of(bins) for part, bins in measured.parts.items()},
            versions_seen=serving.follower.num_loaded,
            model_version=None if replica is None else replica.version,
            model_age_seconds=None if replica is None else serving.age_seconds(replica),
        )

    @app.get("/metrics", response_class=PlainTextResponse, responses=_TOKEN)
    async def prometheus() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _answer_unavailable(_: Request, error: Exception) -> JSONResponse:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse({"error": str(error)}, status_code=503, headers=headers)


async def _answer_older(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=409)


async def _answer_refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    """One line for all faults; the values are left out, for what is no valid UTF-8 could not be answered."""
    assert isinstance(error, RequestValidationError)
    faults = [f"{'.'.join(map(str, fault['loc'][1:])) or 'body'}: {fault['msg']}" for fault in error.errors()]
    return JSONResponse({"error": "; ".join(faults)}, status_code=422)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
