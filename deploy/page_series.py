"""What the live page draws: a point for each version that came to answer, and the users that were asked for lately."""

import asyncio
from collections import deque
from collections.abc import Callable

from pydantic import BaseModel, Field
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.follower import Follower, Replica
from deploy.freshness import Freshness
from storage.manifest import Manifest
from streams.events import MAX_ID_BYTES

MAX_POINTS = 720
"""Most points that are kept: at a version every five seconds, an hour."""
MAX_USERS = 8
"""Most users that are remembered."""
LOOK_SECONDS = 0.25
"""Pause between two looks at what answers."""
QUALITY = {
    "hit_rate": "hit_rate",
    "window_hit_rate": "window_hit_rate_all",
    "popularity_hit_rate": "popularity_hit_rate",
}
"""Figures of a point by their names in a manifest."""


class Point(BaseModel):
    """One version as it began to answer; rates are prequential, null before anything was scored."""

    number: int = Field(description="Place among the versions that answered since the server's start, from 1")
    version: str
    kind: str = Field(description="full or delta")
    size_bytes: int
    created_ms: int
    loaded_ms: int
    events: int = Field(description="Events learned")
    rows: int = Field(description="Items with a row of their own")
    hit_rate: float | None = Field(description="HR@10 over all events so far")
    window_hit_rate: float | None = Field(description="HR@10 over the last ones")
    popularity_hit_rate: float | None = Field(description="Decayed popularity's HR@10 over all events so far")
    p50_seconds: float | None = Field(description="Event to weights that answer, median since the server's start")
    p95_seconds: float | None


class PageSeries:
    """The last `MAX_POINTS` points; `watch` adds them as versions are swapped in."""

    def __init__(self, follower: Follower, freshness: Freshness, clock_ms: Callable[[], int]) -> None:
        self._follower = follower
        self._freshness = freshness
        self._clock_ms = clock_ms
        self._points: deque[Point] = deque(maxlen=MAX_POINTS)
        self._num_points = 0
        self._serial = 0
        self.started_ms = clock_ms()
        """Names this series: another one counts its points anew."""

    async def watch(self) -> None:
        """Look again and again until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Add a point where another version answers than at the last look."""
        replica = self._follower.replica
        if replica is not None and replica.serial != self._serial:
            self._serial = replica.serial
            self._num_points += 1
            self._points.append(self._point(replica))

    def since(self, number: int) -> list[Point]:
        """Points after that number, oldest first."""
        return [point for point in self._points if point.number > number]

    def _point(self, replica: Replica) -> Point:
        manifest = replica.manifest
        return Point(
            number=self._num_points,
            version=replica.version,
            kind=manifest.kind,
            size_bytes=sum(file.bytes for file in manifest.files),
            created_ms=manifest.created_ms,
            loaded_ms=self._clock_ms(),
            events=int(manifest.metrics.get("events", 0)),
            rows=_rows(manifest),
            p50_seconds=self._freshness.whole.quantile_seconds(0.5),
            p95_seconds=self._freshness.whole.quantile_seconds(0.95),
            **{name: manifest.metrics.get(told) for name, told in QUALITY.items()},
        )


class RecentUsers:
    """Remembers whose recommendations were asked for last, so that the page has somebody to look at."""

    def __init__(self, app: ASGIApp, users: deque[str]) -> None:
        self.app = app
        self._users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; of one for a list, note the user."""
        if scope["type"] == "http" and scope["path"] == "/recommend":
            user_id = QueryParams(scope["query_string"]).get("user_id", "")
            if 1 <= len(user_id.encode(errors="replace")) <= MAX_ID_BYTES:
                if user_id in self._users:
                    self._users.remove(user_id)
                self._users.appendleft(user_id)
        await self.app(scope, receive, send)


def recent_users() -> deque[str]:
    """Nobody yet; the one asked for longest ago gives way."""
    return deque(maxlen=MAX_USERS)


def _rows(manifest: Manifest) -> int:
    table = manifest.tables.get("items")
    return 0 if table is None else table.rows
