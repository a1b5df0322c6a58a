"""The worker's HTTP views: a user's sequence, the worker's state, metrics."""

from typing import Any

import faust
from faust import web
from faust.types import TP

from storage.sequence_store import SequenceStore
from streams.chunks import ChunkConsumer
from streams.owners import Owners, OwnerUnavailableError
from streams.ownership import FORWARDED, NOT_THE_OWNER, OWNER
from streams.partitioning import partition_of
from streams.partitions import Partitions
from streams.worker_metrics import WorkerMetrics

MAX_LAST = 100_000
"""Most events that one request asks for."""


def sequence_columns(store: SequenceStore, user_id: str, last: int | None) -> dict[str, Any]:
    """A user's newest events as columns, with how far the store is."""
    events = store.read(user_id, last=last)
    return {
        "user_id": user_id,
        "partition": store.partition,
        "epoch": store.epoch,
        "applied": store.applied,
        "action_names": list(store.settings.actions),
        "item_ids": [event.item_id for event in events],
        "ts_ms": [event.ts_ms for event in events],
        "actions": [event.actions for event in events],
        "values": [event.value for event in events],
        "groups": [event.group for event in events],
        "indexes": [event.index for event in events],
        "features": store.features(user_id),
    }


class Views:
    """Answers requests from the stores that this worker holds."""

    def __init__(self, app: faust.App, partitions: Partitions, metrics: WorkerMetrics) -> None:
        self._app = app
        self._partitions = partitions
        self._metrics = metrics
        self._owners = Owners(app, partitions.topic)

    def install(self) -> None:
        """Add the views to the app: `GET /sequence?user_id=ID&last=N` and `GET /state`.

        A request for a user of whom another worker holds the partition is answered by that one, through this one.
        """

        async def sequence(view: web.View, request: web.Request) -> web.Response:
            status, answer = self.sequence(request.query.get("user_id", ""), request.query.get("last"))
            if status == NOT_THE_OWNER and FORWARDED not in request.headers:
                return await self._forwarded(view, request, answer)
            return view.json(answer, status=status)

        async def state(view: web.View, request: web.Request) -> web.Response:
            return view.json(self.state())

        self._app.page("/sequence")(sequence)
        self._app.page("/state")(state)

    def sequence(self, user_id: str, last: str | None) -> tuple[int, dict[str, Any]]:
        """HTTP status and answer; status 421 where another worker holds the user's partition."""
        if not user_id:
            return 400, {"error": "user_id must not be empty: /sequence?user_id=ID&last=N"}
        if last is not None and not (last.isascii() and last.isdigit() and 0 < int(last) <= MAX_LAST):
            return 400, {"error": f"last must be 1 to {MAX_LAST}, got {last[:32]!r}"}
        partition = partition_of(user_id, self._partitions.description.num_partitions)
        store = self._partitions.stores.get(partition)
        if store is None:
            error = f"partition {partition} of this user is not held by this worker: ask another one"
            return NOT_THE_OWNER, {"error": error, "partition": partition}
        return 200, sequence_columns(store, user_id, None if last is None else int(last))

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
            "users": store.num_users,
            "highwater": consumer.highwater(TP(self._partitions.topic, store.partition)),
        }
