"""The worker's HTTP views: a user's sequence, the worker's state, metrics."""

from typing import Any

import faust
from faust import web
from faust.types import TP
from msgspec.structs import astuple

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
from streams.samples import segments_of
from streams.worker_metrics import WorkerMetrics

MAX_LAST = 100_000
"""Most events that one request asks for."""
MAX_DIGITS = len(str(MAX_POSITION))


def sequence_columns(
    store: SequenceStore, user_id: str, last: int | None = None, until: int | None = None
) -> dict[str, Any]:
    """A user's newest events as columns, as of position `until` or now, with how far the store is.

    `values` holds the newest value of each event, `valued` all of them as [index of the event, action, value];
    `features` the user's as they are, `feature_segments` how they changed, as [ts_ms, place, name, value].
    Raises `StateError` for an `until` before what is kept.
    """
    events, told = store.read(user_id, last=last, until=until), store.updates(user_id, until=until)
    columns = (events.value_places.tolist(), events.value_actions.tolist(), events.values.tolist())
    valued = list(zip(*columns, strict=True))
    newest = {place: value for place, _, value in valued}
    return {
        "user_id": user_id,
        "partition": store.partition,
        "epoch": store.epoch,
        "applied": store.applied,
        "action_names": list(store.settings.actions),
        "item_ids": events.item_ids,
        "ts_ms": events.ts_ms.tolist(),
        "actions": events.actions.tolist(),
        "values": [newest.get(place) for place in range(len(events))],
        "valued": valued,
        "groups": events.groups.tolist(),
        "indexes": events.indexes.tolist(),
        "features": {update.name: update.value for update in told},
        "feature_segments": [astuple(segment) for segment in segments_of(told, events.ts_ms.tolist())],
    }


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

        A request for a user of whom another worker holds the partition is answered by that one, through this one.
        """

        async def sequence(view: web.View, request: web.Request) -> web.Response:
            query = request.query
            status, answer = self.sequence(query.get("user_id", ""), query.get("last"), query.get("until"))
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

    def sequence(self, user_id: str, last: str | None = None, until: str | None = None) -> tuple[int, dict[str, Any]]:
        """HTTP status and answer; 421 where another worker holds the user's partition, 410 before what is kept."""
        if not user_id:
            return 400, {"error": "user_id must not be empty: /sequence?user_id=ID&last=N"}
        if last is not None and not _is_number(last, 1, MAX_LAST):
            return 400, {"error": f"last must be 1 to {MAX_LAST}, got {last[:32]!r}"}
        if until is not None and not _is_number(until, 0, MAX_POSITION):
            return 400, {"error": f"until must be a position, 0 to {MAX_POSITION}, got {until[:32]!r}"}
        partition = partition_of(user_id, self._partitions.description.num_partitions)
        store = self._partitions.stores.get(partition)
        if store is None:
            error = f"partition {partition} of this user is not held by this worker: ask another one"
            return NOT_THE_OWNER, {"error": error, "partition": partition}
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
