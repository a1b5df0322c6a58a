"""The serving process: HTTP routes, start and stop."""

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
    Delays,
    ErrorAnswer,
    FreshnessAnswer,
    HealthAnswer,
    Id,
    MinVersion,
    RankAnswer,
    RankRequest,
    RecommendAnswer,
    SequenceAnswer,
)
from deploy.body_limit import BodyLimit
from deploy.broker import require_free_port
from deploy.follower import Follower
from deploy.freshness import Freshness
from deploy.load_limit import RETRY_AFTER_SECONDS, LoadLimit
from deploy.sequences import SequenceClient, SequenceUnavailableError
from deploy.serve_settings import MAX_K, ServeSettings
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

_ERRORS: dict[int | str, dict[str, Any]] = {
    422: {"model": ErrorAnswer, "description": "The request is not valid"},
    503: {"model": ErrorAnswer, "description": "Nothing can be answered now; Retry-After says when to ask again"},
}
_MODEL_ERRORS = _ERRORS | {
    409: {"model": ErrorAnswer, "description": "The version that is asked for at least does not answer yet"}
}


def create_app(serving: Serving, serve: ServeSettings = ServeSettings()) -> FastAPI:  # noqa: B008 - frozen
    """The HTTP application around `serving`, which it starts and stops; of the settings, who may ask and how much."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        serving.start()
        try:
            yield
        finally:
            await serving.stop()

    metrics = ServingMetrics(serving)
    app = FastAPI(
        title="Headwater",
        description="Recommendations from a model that learns from the stream it serves.",
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimit)
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
    return app


def run_server(serve: ServeSettings, kafka: KafkaSettings, topics: TopicSettings, snapshots: SnapshotSettings) -> int:
    """Serve until SIGINT or SIGTERM, then return 0; raises `SetupError` for a port in use or no broker."""
    require_free_port(serve.host, serve.port, "serve.port")
    describe_topic(kafka, topics.items)
    torch.set_num_threads(serve.num_threads)
    # One line for each request to a worker would be one for each answer.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = create_app(_serving(serve, kafka, topics, snapshots), serve)
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
    freshness = Freshness(_now_ms)
    follower = Follower(
        SnapshotStore(snapshots),
        freshness,
        poll_seconds=serve.poll_seconds,
        exact_items=serve.exact_items,
        alias=serve.alias,
    )
    follower.announcements = Announcements(kafka, topics.snapshots, snapshots.model, follower.look)
    return Serving(
        follower=follower,
        sequences=SequenceClient(serve.worker_urls, timeout_seconds=serve.sequence_timeout_seconds),
        catalogue=Catalogue(kafka, topics.items),
        freshness=freshness,
        clock_ms=_now_ms,
        min_version_seconds=serve.min_version_seconds,
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

    @app.post("/rank", responses=_MODEL_ERRORS)
    async def rank(request: RankRequest) -> RankAnswer:
        """The probability of each action of the user on each of the given items."""
        return await serving.rank(request.user_id, request.item_ids, request.min_version)

    @app.get("/users/{user_id:path}/sequence", responses=_ERRORS)
    async def sequence(
        user_id: Annotated[Id, Path()],
        last: Annotated[int, Query(ge=1, le=MAX_EVENTS, description="Most events")] = 100,
    ) -> SequenceAnswer:
        """The user's newest events, as the next answer would see them."""
        return await serving.sequence(user_id, last)


def _add_reports(app: FastAPI, serving: Serving, metrics: ServingMetrics) -> None:
    @app.get("/healthz", responses={503: _ERRORS[503]})
    async def healthz() -> HealthAnswer:
        """200 once a model is loaded and the catalogue has been read, 503 before."""
        return serving.health()

    @app.get("/freshness")
    async def freshness() -> FreshnessAnswer:
        """How long events took into the weights that answer."""
        replica = serving.follower.replica
        measured = serving.freshness
        return FreshnessAnswer(
            event_to_weights=Delays(
                count=measured.count,
                p50_seconds=measured.quantile_seconds(0.5),
                p95_seconds=measured.quantile_seconds(0.95),
            ),
            versions_seen=serving.follower.num_loaded,
            model_version=None if replica is None else replica.version,
            model_age_seconds=None if replica is None else serving.age_seconds(replica),
        )

    @app.get("/metrics", response_class=PlainTextResponse)
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
