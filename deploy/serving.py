"""Answering: a user's sequence from its worker, the model's scores from one replica, titles from the catalogue."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from deploy.answers import (
    HealthAnswer,
    RankAnswer,
    RankedItem,
    RecommendAnswer,
    Recommendation,
    SequenceAnswer,
    SequenceEvent,
)
from deploy.follower import Follower, Replica
from deploy.freshness import Freshness
from deploy.inference import Inference
from deploy.sequence_columns import SequenceColumns
from deploy.sequences import SequenceClient
from model.question import BestItems, GivenItems
from storage.errors import HeadwaterError
from streams.catalogue import Catalogue

VERSION_POLL_SECONDS = 0.02
"""Pause between two looks at whether a version that is waited for answers."""


class NotReadyError(HeadwaterError):
    """Nothing can be answered yet."""


class OlderVersionError(HeadwaterError):
    """What answers is older than what was asked for."""


class Serving:
    """Makes the answers; each comes from exactly one replica.

    The model computes in a thread of its own (`Inference`), so that the event loop goes on taking requests. `start` and
    `stop` frame the life of the follower and the catalogue too.
    """

    def __init__(
        self,
        *,
        follower: Follower,
        sequences: SequenceClient,
        inference: Inference,
        catalogue: Catalogue,
        freshness: Freshness,
        clock_ms: Callable[[], int],
        min_version_seconds: float = 2.0,
    ) -> None:
        self.follower = follower
        self.sequences = sequences
        self.inference = inference
        self.catalogue = catalogue
        self.freshness = freshness
        self.clock_ms = clock_ms
        self.min_version_seconds = min_version_seconds

    def start(self) -> None:
        """Begin to follow snapshots and the catalogue."""
        self.follower.start()
        self.catalogue.start()

    async def stop(self) -> None:
        """Stop every thread and close the connections to the workers."""
        await asyncio.gather(asyncio.to_thread(self.follower.stop), asyncio.to_thread(self.catalogue.stop))
        await self.sequences.aclose()
        self.inference.stop()

    async def recommend(self, user_id: str, k: int, min_version: str | None = None) -> RecommendAnswer:
        """The k best items; raises `NotReadyError`, `OlderVersionError` and `SequenceUnavailableError`."""
        replica = await self._replica_of(min_version)
        columns = await self._read(replica, user_id)
        sequence, unavailable = columns.to_sequence(), self.catalogue.unavailable
        now_ms = self._query_ms(replica, columns)
        question = BestItems(sequence=sequence, now_ms=now_ms, k=k, unavailable=unavailable)
        scored = await self.inference.answer(replica, question)
        self.freshness.answered(replica.serial)
        return RecommendAnswer(
            model_version=replica.version,
            model_age_seconds=self.age_seconds(replica),
            user_id=user_id,
            applied=columns.applied,
            items=[Recommendation(**self._facts(item_id), score=score) for item_id, score in scored],
        )

    async def rank(self, user_id: str, item_ids: list[str], min_version: str | None = None) -> RankAnswer:
        """The probability of each action on each item; raises as `recommend` does."""
        replica = await self._replica_of(min_version)
        columns = await self._read(replica, user_id)
        sequence, unavailable = columns.to_sequence(), self.catalogue.unavailable
        asked = [item_id for item_id in item_ids if item_id not in unavailable]
        now_ms = self._query_ms(replica, columns)
        question = GivenItems(sequence=sequence, now_ms=now_ms, item_ids=asked)
        scores = await self.inference.answer(replica, question)
        self.freshness.answered(replica.serial)
        return RankAnswer(
            model_version=replica.version,
            model_age_seconds=self.age_seconds(replica),
            user_id=user_id,
            applied=columns.applied,
            items=[RankedItem(**self._facts(item_id), scores=row) for item_id, row in zip(asked, scores, strict=True)],
            unavailable=[item_id for item_id in item_ids if item_id in unavailable],
        )

    async def sequence(self, user_id: str, last: int) -> SequenceAnswer:
        """The user's newest events; needs no model. Raises `SequenceUnavailableError`."""
        columns = await self.sequences.read(user_id, last=last)
        replica = self.follower.replica
        return SequenceAnswer(
            model_version=None if replica is None else replica.version,
            model_age_seconds=None if replica is None else self.age_seconds(replica),
            user_id=user_id,
            partition=columns.partition,
            epoch=columns.epoch,
            applied=columns.applied,
            features=columns.features,
            events=[self._event(columns, place) for place in self._told(columns)],
        )

    def health(self) -> HealthAnswer:
        """What answers; raises `NotReadyError`."""
        replica, followed = self._replica(), self.follower.followed
        return HealthAnswer(
            status="ok",
            model_version=replica.version,
            model_age_seconds=self.age_seconds(replica),
            alias=self.follower.alias,
            generation=0 if followed is None else followed.generation,
            pinned=followed is not None and followed.pinned,
            learned={number: mark.trigger_offset for number, mark in replica.manifest.sample_marks.items()},
            now_ms=self.stream_ms(replica),
            problem=self.follower.problem or self.catalogue.problem,
        )

    def age_seconds(self, replica: Replica) -> float:
        """Time since the replica's version was cut."""
        return round((self.clock_ms() - replica.manifest.created_ms) / 1000, 3)

    def stream_ms(self, replica: Replica) -> int:
        """The stream's present time: the newest learned event's, and what has passed since the version was cut.

        A replay of old events has a present of its own, long before the clock's.
        """
        return replica.manifest.event_time_ms + max(0, self.clock_ms() - replica.manifest.created_ms)

    def _query_ms(self, replica: Replica, columns: SequenceColumns) -> int:
        return max(self.stream_ms(replica), max(columns.ts_ms, default=0))

    def _replica(self) -> Replica:
        replica = self.follower.replica
        if replica is None:
            raise NotReadyError(self.follower.problem or "no snapshot has been published yet")
        if not self.catalogue.ready:
            raise NotReadyError(self.catalogue.problem or "the catalogue has not been read to its end yet")
        return replica

    async def _replica_of(self, min_version: str | None) -> Replica:
        """What answers, once it is `RUN/vN` or later; raises `OlderVersionError` where that takes too long."""
        deadline = time.monotonic() + self.min_version_seconds
        while not _is_at_least(replica := self._replica(), min_version):
            if time.monotonic() >= deadline:
                raise OlderVersionError(
                    f"min_version is {min_version}, and {replica.version} answers after {self.min_version_seconds:g} s"
                )
            await asyncio.sleep(VERSION_POLL_SECONDS)
        return replica

    async def _read(self, replica: Replica, user_id: str) -> SequenceColumns:
        columns = await self.sequences.read(user_id)
        if tuple(columns.action_names) != replica.settings.actions:
            raise NotReadyError(
                f"the worker's actions {columns.action_names} are not those of model {replica.version}, "
                f"{list(replica.settings.actions)}: run workers and learner with the same settings"
            )
        return columns

    def _facts(self, item_id: str) -> dict[str, Any]:
        item = self.catalogue.get(item_id)
        if item is None:
            return {"item_id": item_id, "title": "", "categories": []}
        return {"item_id": item_id, "title": item.title, "categories": list(item.categories)}

    def _told(self, columns: SequenceColumns) -> list[int]:
        """Places of the events that may be told of: those on items that are not to be forgotten."""
        items = [self.catalogue.get(item_id) for item_id in columns.item_ids]
        return [place for place, item in enumerate(items) if item is None or not item.forgotten]

    def _event(self, columns: SequenceColumns, place: int) -> SequenceEvent:
        mask = columns.actions[place]
        return SequenceEvent(
            **self._facts(columns.item_ids[place]),
            ts_ms=columns.ts_ms[place],
            actions=[name for bit, name in enumerate(columns.action_names) if mask >> bit & 1],
            value=columns.values[place],
            group=columns.groups[place],
        )


def _is_at_least(replica: Replica, min_version: str | None) -> bool:
    if min_version is None:
        return True
    run_id, _, number = min_version.partition("/v")
    return replica.manifest.run_id == run_id and replica.manifest.version >= int(number)
