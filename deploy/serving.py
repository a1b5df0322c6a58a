"""Answering: a user's sequence from its worker, the model's scores from one replica, titles from the catalogue."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from deploy.answer_times import AnswerTimes
from deploy.answers import (
    BatchAnswer,
    BatchPart,
    ExplainAnswer,
    ExplainedEvent,
    HealthAnswer,
    ItemFacts,
    RankAnswer,
    RankedItem,
    RecommendAnswer,
    Recommendation,
    SequenceAnswer,
    SequenceEvent,
    SideHealth,
)
from deploy.asked import Asked
from deploy.canary import Side, Split
from deploy.explain import explain, is_learned, learned_offset
from deploy.follower import Follower, Replica
from deploy.freshness import Freshness
from deploy.inference import Inference
from deploy.list_hits import ListHits
from deploy.sequence_columns import SequenceColumns
from deploy.sequences import SequenceClient, SequenceUnavailableError
from deploy.serve_settings import ServeSettings
from deploy.slate import Seen, make_slate
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
        rules: ServeSettings = ServeSettings(),  # noqa: B008 - frozen
        canary: Follower | None = None,
    ) -> None:
        self.follower = follower
        self.sequences = sequences
        self.inference = inference
        self.catalogue = catalogue
        self.freshness = freshness
        self.clock_ms = clock_ms
        self.rules = rules
        self.split = Split(follower, canary, rules.canary_share)
        self.times = AnswerTimes()
        self.hits = ListHits()

    def start(self) -> None:
        """Begin to follow snapshots and the catalogue."""
        for follower in self.split.followers:
            follower.start()
        self.catalogue.start()

    async def stop(self) -> None:
        """Stop every thread and close the connections to the workers."""
        stops = [self.catalogue.stop, *(follower.stop for follower in self.split.followers)]
        await asyncio.gather(*map(asyncio.to_thread, stops))
        await self.sequences.aclose()
        self.inference.stop()

    async def recommend(self, user_id: str, k: int, min_version: str | None = None) -> RecommendAnswer:
        """The k best items; raises `NotReadyError`, `OlderVersionError` and `SequenceUnavailableError`."""
        return await self._recommend(await self._ask_now(user_id, min_version), k)

    async def batch(self, user_ids: Sequence[str], k: int, min_version: str | None = None) -> BatchAnswer:
        """Lists for several users, all from the same versions; an error of one is told in its place.

        Raises `NotReadyError` and `OlderVersionError`, where nobody can be answered.
        """
        sides: dict[str, Side] = {}
        for follower in map(self.split.of, user_ids):
            if follower.alias not in sides:
                side = await self._side(follower, min_version)
                sides[follower.alias] = sides.setdefault(side.follower.alias, side)

        async def ask(user_id: str) -> Asked | BatchPart:
            try:
                return await self._ask(user_id, sides[self.split.of(user_id).alias])
            except (NotReadyError, SequenceUnavailableError) as error:
                return BatchPart(user_id=user_id, error=str(error))

        async def answer(asked: Asked | BatchPart) -> BatchPart:
            if isinstance(asked, BatchPart):
                return asked
            return BatchPart(user_id=asked.columns.user_id, answer=await self._recommend(asked, k))

        # All are read before any is computed: a read must not wait for its turn until it is too late.
        asked = await asyncio.gather(*map(ask, user_ids))
        return BatchAnswer(answers=await asyncio.gather(*map(answer, asked)))

    async def _recommend(self, asked: Asked, k: int) -> RecommendAnswer:
        columns = asked.columns
        seen = Seen.of(columns.item_ids, columns.actions, self.rules.max_impressions)
        places = await make_slate(asked, self.catalogue, self.rules, seen, k=k, now_ms=self.clock_ms())
        self.hits.listed(columns, asked.side.follower.alias, [place.item_id for place in places])
        items = [
            Recommendation(**self._facts(place.item_id), score=place.score, actions=place.actions, why=place.why)
            for place in places
        ]
        return RecommendAnswer(**self._stamp(asked), items=items)

    async def rank(self, user_id: str, item_ids: list[str], min_version: str | None = None) -> RankAnswer:
        """The probability of each action on each item; raises as `recommend` does."""
        asked = await self._ask_now(user_id, min_version)
        told = [item_id for item_id in item_ids if item_id not in asked.unavailable]
        scores = await asked.probabilities(told)
        return RankAnswer(
            **self._stamp(asked),
            items=[RankedItem(**self._facts(item_id), scores=row) for item_id, row in zip(told, scores, strict=True)],
            unavailable=[item_id for item_id in item_ids if item_id in asked.unavailable],
        )

    async def explain(self, user_id: str, item_id: str, last: int, min_version: str | None = None) -> ExplainAnswer:
        """Why an item has its score, by each of the user's newest `last` events; raises as `recommend` does."""
        asked = await self._ask_now(user_id, min_version)
        columns = asked.columns
        told = await explain(asked, item_id, self._told(columns)[-last:])
        events = {place: self._event(columns, place) for place in told.changes}
        return ExplainAnswer(
            **self._stamp(asked),
            item=ItemFacts(**self._facts(item_id)),
            available=item_id not in asked.unavailable,
            acted_on=item_id in Seen.of(columns.item_ids, columns.actions, 0).acted,
            score=told.score.total,
            **told.score._asdict(),
            actions=told.actions,
            events=[
                ExplainedEvent(**event.model_dump(), change=told.changes[place], learned=is_learned(asked, place))
                for place, event in events.items()
            ],
            last_event_ms=max(columns.ts_ms, default=None),
            learned_offset=learned_offset(asked),
            version_ms=asked.side.replica.manifest.created_ms,
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
        replica, followed = self._replica(self.follower), self.follower.followed
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
            sides=[self._side_health(follower) for follower in self.split.followers],
        )

    def _side_health(self, follower: Follower) -> SideHealth:
        replica, alias = follower.replica, follower.alias
        return SideHealth(
            alias=alias,
            share=self.split.share_of(follower),
            model_version=None if replica is None else replica.version,
            problem=follower.problem,
            lists_followed=self.hits.num_followed[alias],
            hit_rate=self.hits.hit_rate(alias),
            prequential={} if replica is None else replica.manifest.metrics,
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

    def _replica(self, follower: Follower) -> Replica:
        replica = follower.replica
        if replica is None:
            raise NotReadyError(follower.problem or "no snapshot has been published yet")
        if not self.catalogue.ready:
            raise NotReadyError(self.catalogue.problem or "the catalogue has not been read to its end yet")
        unknown = self.rules.weights.keys() - set(replica.settings.actions)
        if unknown:
            raise NotReadyError(
                f"serve.action_weights names {', '.join(sorted(unknown))}, and the actions of model {replica.version} "
                f"are {', '.join(replica.settings.actions)}: weigh those"
            )
        return replica

    async def _side(self, follower: Follower, min_version: str | None) -> Side:
        """An alias with its replica, once that is `RUN/vN` or later; the champion where the canary's cannot be had.

        Raises `OlderVersionError` where the champion's takes too long.
        """
        if follower is self.split.canary:
            with contextlib.suppress(NotReadyError):
                if _is_at_least(replica := self._replica(follower), min_version):
                    return Side(follower, replica)
            self.split.num_fallbacks += 1
        deadline = time.monotonic() + self.rules.min_version_seconds
        while not _is_at_least(replica := self._replica(self.follower), min_version):
            if time.monotonic() >= deadline:
                waited = f"{self.rules.min_version_seconds:g} s"
                raise OlderVersionError(f"min_version is {min_version}, and {replica.version} answers after {waited}")
            await asyncio.sleep(VERSION_POLL_SECONDS)
        return Side(self.follower, replica)

    async def _ask(self, user_id: str, side: Side) -> Asked:
        started = time.perf_counter()
        columns = await self._read(side.replica, user_id)
        return Asked(
            side=side,
            columns=columns,
            sequence=columns.to_sequence(),
            now_ms=self._query_ms(side.replica, columns),
            unavailable=self.catalogue.unavailable,
            inference=self.inference,
            started=started,
        )

    async def _ask_now(self, user_id: str, min_version: str | None) -> Asked:
        return await self._ask(user_id, await self._side(self.split.of(user_id), min_version))

    def _stamp(self, asked: Asked) -> dict[str, Any]:
        """What every answer carries; it is made now."""
        follower, replica = asked.side
        follower.freshness.answered(replica.serial)
        self.times.answer.labels(follower.alias).observe(time.perf_counter() - asked.started)
        return {
            "model_version": replica.version,
            "model_age_seconds": self.age_seconds(replica),
            "alias": follower.alias,
            "user_id": asked.columns.user_id,
            "applied": asked.columns.applied,
        }

    async def _read(self, replica: Replica, user_id: str) -> SequenceColumns:
        with self.times.sequence_read.time():
            columns = await self.sequences.read(user_id)
        if tuple(columns.action_names) != replica.settings.actions:
            raise NotReadyError(
                f"the worker's actions {columns.action_names} are not those of model {replica.version}, "
                f"{list(replica.settings.actions)}: run workers and learner with the same settings"
            )
        self.hits.read(columns)
        return columns

    def _facts(self, item_id: str) -> dict[str, Any]:
        item = self.catalogue.get(item_id)
        if item is None or item.forgotten:
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
