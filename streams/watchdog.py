"""Ends the process when records wait and none is applied: Faust's consumers are known to stop without a word."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from faust.types import TP

from storage.errors import SetupError
from streams.chunks import ChunkConsumer, LogPositions
from streams.faults import exit_now
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicDescription, describe_topic


class Progress:
    """Since when each partition has had records waiting without moving.

    >>> progress = Progress(seconds=60)
    >>> progress.stalled(10.0, {0: (5, True)}), progress.stalled(69.0, {0: (5, True)})
    (None, None)
    >>> progress.stalled(70.0, {0: (5, True)})
    0
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[int, tuple[int, float]] = {}

    def stalled(self, now: float, partitions: Mapping[int, tuple[int, bool]]) -> int | None:
        """A partition that did not move for `seconds`; each comes as (next offset, whether records wait)."""
        for number in set(self._since) - set(partitions):
            del self._since[number]
        for number, (offset, waiting) in partitions.items():
            if not waiting or self._since.get(number, (-1, now))[0] != offset:
                self._since[number] = (offset, now)
            elif now - self._since[number][1] >= self.seconds:
                return number
        return None


class WatchedPositions(LogPositions, Protocol):
    """Positions that a watchdog looks at."""

    @property
    def description(self) -> TopicDescription:
        """The topic as it was when its partitions were placed last."""


class Watchdog:
    """Looks at a worker's progress for as long as `run` runs."""

    def __init__(
        self,
        consumer: ChunkConsumer,
        partitions: WatchedPositions,
        kafka: KafkaSettings,
        seconds: float,
        *,
        holds_back: Callable[[], bool] = lambda: False,
    ) -> None:
        """`holds_back` says whether records wait because what they lead to cannot leave."""
        self._holds_back = holds_back
        self._consumer = consumer
        self._partitions = partitions
        self._kafka = kafka
        self._seconds = seconds
        self._progress = Progress(seconds)
        self._idle_since: float | None = None

    async def run(self) -> None:
        """Watch until cancelled; ends the process where nothing moves."""
        while True:
            await asyncio.sleep(self._seconds / 10)
            await self.check(time.monotonic())

    async def check(self, now: float) -> None:
        """Look once; ends the process where nothing moved for too long."""
        if not self._consumer.in_group():
            exit_now("the consumer left its group for ever")
        number = self._progress.stalled(now, self._waiting())
        if number is not None:
            exit_now(f"no record of partition {number} was applied for {self._seconds:g} s though some wait")
        if self._partitions.held or self._consumer.assignment():
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= self._seconds:
            self._idle_since = now
            await self._check_topic()

    def _waiting(self) -> dict[int, tuple[int, bool]]:
        waiting = {}
        for number in sorted(self._partitions.held):
            tp = TP(self._partitions.topic, number)
            if tp in self._consumer.assignment():
                offset = self._partitions.next_offset(number) or 0
                waiting[number] = (offset, self._waits(tp) and not self._holds_back())
        return waiting

    def _waits(self, tp: TP) -> bool:
        # One that is ours and is not even sought stands still, too.
        position, end = self._consumer.read_to(tp), self._consumer.highwater(tp)
        return position is None or (end is not None and end > position)

    async def _check_topic(self) -> None:
        # A topic made anew under a running consumer leaves it without partitions for ever.
        try:
            found = await asyncio.to_thread(describe_topic, self._kafka, self._partitions.topic)
        except SetupError:
            return
        known = self._partitions.description.topic_id
        if found is not None and known and found.topic_id != known:
            exit_now(f"topic {self._partitions.topic} was made anew and no partition of it came to this worker")
