"""The worker's HTTP views: a user's sequence, the worker's state, metrics."""

from typing import Any

import faust
from faust import web
from faust.types import TP

from storage.errors import StateError
from storage.keys import MAX_POSITION
from storage.sequence_store import SequenceStore
from streams.chunks import ChunkConsumer
from streams.http_access import HttpAccess
from streams.owners import Owners, OwnerUnavailableError
from streams.ownership import FORWARDED, NOT_THE_OWNER, OWNER
from streams.partitioning import partition_of
from streams.partitions import Partitions
from streams.readiness import Readiness
from streams.sequence_columns import sequence_columns
from streams.sequence_news import DIGEST_LETTERS, sequence_news
from streams.worker_metrics import WorkerMetrics

MAX_LAST = 100_000
"""Most events that one request asks for."""
MAX_DIGITS = len(str(MAX_POSITION))


class Views:
    """Answers requests from the stores that this worker holds."""

    def __init__(
        self,
        app: faust.App,
        partitions: Partitions,
        metrics: WorkerMetrics,
        access: HttpAccess = HttpAccess(),  # noqa: B008 - frozen
    ) -> None:
        self._app = app
        self._partitions = partitions
        self._metrics = metrics
        self._owners = Owners(app, partitions.topic, access)
        self._readiness = Readiness(app, partitions)

    def install(self) -> None:
        """Add the views to the app: `GET /sequence?user_id=ID&last=N&until=POSITION`, `/state`, `/live` and `/ready`.

        `/sequence?user_id=ID&since=POSITION&digest=D` tells what is new to who has read that (`sequence_news`).
        A request for a user of whom another worker holds the partition is answered by that one, through this one.
        """

        async def sequence(view: web.View, request: web.Request) -> web.Response:
            query = request.query
            names = ("last", "until", "since", "digest")
            status, answer = self.sequence(query.get("user_id", ""), *(query.get(name) for name in names))
            if status == NOT_THE_OWNER and FORWARDED not in request.headers:
                return await self._forwarded(view, request, answer)
            return view.json(answer, status=status)

        async def state(view: web.View, request: web.Request) -> web.Response:
            return view.json(self.state())

        self._app.page("/sequence")(sequence)

        async def live(view: web.View, request: web.Request) -> web.Response:
            return view.json({"live": True})

        async def ready(view: web.View, request: web.Request) -> web.Response:
            missing = self._readiness.missing()
            return view.json({"ready": missing is None, "missing": missing}, status=503 if missing else 200)

        self._app.page("/state")(state)
        self._app.page("/live")(live)
        self._app.page("/ready")(ready)

    def sequence(
        self,
        user_id: str,
        last: str | None = None,
        until: str | None = None,
        since: str | None = None,
        digest: str | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """HTTP status and answer; 421 where another worker holds the user's partition, 410 before what is kept."""
        if not user_id:
            return 400, {"error": "user_id must not be empty: /sequence?user_id=ID&last=N"}
        if last is not None and not _is_number(last, 1, MAX_LAST):
            return 400, {"error": f"last must be 1 to {MAX_LAST}, got {last[:32]!r}"}
        if until is not None and not _is_number(until, 0, MAX_POSITION):
            return 400, {"error": f"until must be a position, 0 to {MAX_POSITION}, got {until[:32]!r}"}
        if since is not None and not _is_number(since, 0, MAX_POSITION):
            return 400, {"error": f"since must be a position, 0 to {MAX_POSITION}, got {since[:32]!r}"}
        if since is not None and (last is not None or until is not None or len(digest or "") > DIGEST_LETTERS):
            return 400, {"error": "since goes with the digest of what was read, and neither with last nor with until"}
        partition = partition_of(user_id, self._partitions.description.num_partitions)
        store = self._partitions.stores.get(partition)
        if store is None:
            error = f"partition {partition} of this user is not held by this worker: ask another one"
            return NOT_THE_OWNER, {"error": error, "partition": partition}
        if since is not None:
            return 200, sequence_news(store, user_id, int(since), digest or "")
        try:
            columns = sequence_columns(
                store, user_id, None if last is None else int(last), None if until is None else int(until)
            )
        except StateError as error:
            return 410, {"error": str(error)}
        return 200, columns

    async def _forwarded(self, view: web.View, request: web.Request, answer: dict[str, Any]) -> web.Response:
        owner = self._owners.url_of(answer["partition"])
        if owner is None:
            return view.json(answer, status=NOT_THE_OWNER)
        try:
            status, body = await self._owners.ask(owner, "/sequence", request.query)
        except OwnerUnavailableError as error:
            return view.json({**answer, "error": str(error)}, status=503)
        return view.bytes(body, content_type="application/json", status=status, headers={OWNER: owner})

    def state(self) -> dict[str, Any]:
        """How far each partition is, and what was counted since the worker started."""
        description = self._partitions.description
        return {
            "topic": self._partitions.topic,
            "topic_id": description.topic_id,
            "num_partitions": description.num_partitions,
            "partitions": {number: self._partition(store) for number, store in self._partitions.stores.items()},
            "counters": self._metrics.counts(),
            "event_to_sequence_seconds": self._metrics.event_to_sequence.quantiles(),
        }

    def _partition(self, store: SequenceStore) -> dict[str, int | None]:
        consumer = self._app.consumer
        assert isinstance(consumer, ChunkConsumer)
        return {
            "epoch": store.epoch,
            "applied": store.applied,
            "outbox": store.outbox_size,
            "timers": store.num_timers,
            "users": store.num_users,
            "highwater": consumer.highwater(TP(self._partitions.topic, store.partition)),
            "lag": consumer.lag(store.partition),
        }


def _is_number(text: str, least: int, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and least <= int(text) <= most
