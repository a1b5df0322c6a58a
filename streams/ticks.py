"""Time that goes on in an idle partition: its owner appends a `Tick`, so that timers fire by the log alone.

A timer fires by the event times of its partition's records. Where none come, the owner appends one that says only how
long it has been since the newest. A wall clock never fires a timer: after a restore the replay would form other samples
under the same ids.
"""

import asyncio
import logging
import time
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]  # as above
from faust.types import TP

from storage.sequence_store import SequenceStore
from streams.chunks import ChunkConsumer
from streams.events import Tick, encode_event
from streams.partitions import Partitions

TICK_SECONDS = 1.0
"""Time between two ticks of a partition, at least."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Idle:
    """The newest applied record of a partition, and when there was nothing after it."""

    epoch: int
    applied: int
    since: float


class Ticker:
    """Appends ticks to the idle ones of a worker's partitions for as long as `run` runs."""

    def __init__(self, consumer: ChunkConsumer, partitions: Partitions, producer: AIOKafkaProducer) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._producer = producer
        self._idle: dict[int, _Idle] = {}

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self.tick()

    async def tick(self) -> None:
        """Append a tick to each partition that waits for one."""
        stores = self._partitions.stores
        self._idle = {number: idle for number, idle in self._idle.items() if number in stores}
        for number, store in stores.items():
            if store.num_timers and self._is_read(number):
                await self._tick(number, store)
            else:
                self._idle.pop(number, None)

    async def _tick(self, number: int, store: SequenceStore) -> None:
        now, idle = time.monotonic(), self._idle.get(number)
        if idle is None or (idle.epoch, idle.applied) != (store.epoch, store.applied):
            if idle is None or idle.epoch != store.epoch or idle.applied < store.applied:
                self._idle[number] = _Idle(store.epoch, store.applied, now)
            return
        idle_ms = int((now - idle.since) * 1000)
        value = encode_event(Tick(ts_ms=store.watermark_ms + idle_ms))
        try:
            sent = await self._producer.send_and_wait(self._partitions.topic, value, partition=number)
        except (KafkaError, OSError) as error:
            logger.warning("no tick for partition %d: %s", number, error)
            return
        # The tick itself is no end of the idleness: time goes on from the moment that it tells.
        self._idle[number] = _Idle(store.epoch, sent.offset, idle.since + idle_ms / 1000)

    def _is_read(self, number: int) -> bool:
        """Whether no record waits; a transaction's marker behind the newest one is none."""
        partition = TP(self._partitions.topic, number)
        position, end = self._consumer.read_to(partition), self._consumer.highwater(partition)
        return position is not None and end is not None and position >= end
