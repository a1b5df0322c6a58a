"""The live page: its files, what it shows of the server, and the actions that are sent from it."""

from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from deploy.answers import Delays, Id
from deploy.page_clicks import Clicks
from deploy.page_series import PageSeries, Point
from deploy.sequences import PartitionState
from deploy.serving import NotReadyError, Serving
from storage.errors import SetupError

FOLDER = FilePath(__file__).with_name("page")
FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "uPlot.iife.min.js": "text/javascript",
    "uPlot.min.css": "text/css",
}
"""Files of the page by their types; nothing else of the folder is given out."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The page loads nothing from elsewhere and runs nothing but its own script, whatever an item's title holds."""


class PageState(BaseModel):
    """What the page shows beside lists and sequences; null or empty where nothing answers yet."""

    started_ms: int = Field(description="Another value: the points are counted anew")
    problem: str | None
    model_version: str | None
    model_age_seconds: float | None
    alias: str
    pinned: bool
    learned: dict[str, int] = Field(description="As in /healthz")
    actions: list[str]
    waiting: int | None = Field(description="Records that wait for a worker; null where no worker answers")
    unlearned: int | None = Field(description="Records that workers have applied since the newest one that is learned")
    clicks: bool = Field(description="Whether actions may be sent from the page (serve.page_clicks)")
    users: list[str] = Field(description="Users whose lists were asked for lately, the last first")
    event_to_weights: Delays
    points: list[Point]


class ClickRequest(BaseModel):
    """An action to be sent."""

    user_id: Id
    item_id: Id
    action: str = Field(min_length=1, max_length=64)


class ClickAnswer(BaseModel):
    """Where the event is in the log."""

    partition: int
    offset: int


def add_page(app: FastAPI, serving: Serving, series: PageSeries, users: deque[str], clicks: Clicks | None) -> None:
    """Add `/`, its files, `/page/state`, and `/page/click`, which sends actions if `clicks` is given."""

    def give(name: str, media_type: str) -> Callable[[], Coroutine[Any, Any, Response]]:
        content = (FOLDER / name).read_bytes()

        async def file() -> Response:
            return Response(content, media_type=media_type, headers=HEADERS)

        return file

    app.get("/", include_in_schema=False)(give("index.html", "text/html"))
    for name, media_type in FILES.items():
        app.get(f"/page/files/{name}", include_in_schema=False)(give(name, media_type))

    @app.get("/page/state", include_in_schema=False)
    async def state(
        since: Annotated[int, Query(ge=0, description="Number of the last point that is known")] = 0,
    ) -> PageState:
        """What the live page shows."""
        series.look()
        partitions = await serving.sequences.partitions()
        return _state(serving, series, users, since, clicks is not None, partitions)

    @app.post("/page/click", include_in_schema=False)
    async def click(request: ClickRequest) -> ClickAnswer:
        """Send an action as if the user had done it now; 403 unless `serve.page_clicks` is set."""
        if clicks is None:
            raise HTTPException(403, "no actions are sent from here: serve.page_clicks is not set")
        allowed = _actions(serving)
        if request.action not in allowed:
            raise HTTPException(422, f"action must be one of {', '.join(allowed)}, got {request.action[:64]!r}")
        now_ms = serving.health().now_ms
        try:
            delivery = await clicks.send(request.user_id, request.item_id, request.action, now_ms)
        except SetupError as error:
            raise HTTPException(503, str(error)) from error
        return ClickAnswer(partition=delivery.partition, offset=delivery.offset)


def _state(
    serving: Serving,
    series: PageSeries,
    users: deque[str],
    since: int,
    clicks: bool,
    partitions: Mapping[int, PartitionState],
) -> PageState:
    try:
        health, problem = serving.health(), None
    except NotReadyError as error:
        health, problem = None, str(error)
    return PageState(
        started_ms=series.started_ms,
        problem=problem if health is None else health.problem,
        model_version=None if health is None else health.model_version,
        model_age_seconds=None if health is None else health.model_age_seconds,
        alias=serving.follower.alias,
        pinned=health is not None and health.pinned,
        learned={} if health is None else health.learned,
        actions=_actions(serving),
        waiting=sum(state.lag or 0 for state in partitions.values()) if partitions else None,
        unlearned=_unlearned(partitions, health.learned) if partitions and health else None,
        clicks=clicks,
        users=list(users),
        event_to_weights=Delays.of(serving.freshness.whole),
        points=series.since(since),
    )


def _unlearned(partitions: Mapping[int, PartitionState], learned: Mapping[str, int]) -> int:
    return sum(max(0, state.applied - learned.get(str(number), -1)) for number, state in partitions.items())


def _actions(serving: Serving) -> list[str]:
    replica = serving.follower.replica
    return [] if replica is None else list(replica.settings.actions)
