import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # aiokafka ships no types

from storage.changes import Refused
from storage.keys import OutboxKey
from streams.outbox_sender import FIRST_ITEMS, MAX_BATCH_BYTES, MAX_ITEMS, OutboxSender
from streams.topics import TopicSettings
from streams.worker_metrics import WorkerMetrics


class Outbox:
    """Dead letters of one size, and how many were asked for at a time."""

    partition = 0

    def __init__(self, count: int, num_bytes: int) -> None:
        letter = Refused(
            offset=0, kafka_ms=0, cause="c", message="m", key=b"", head=b"x" * num_bytes, size=num_bytes, sha256=""
        )
        self.items = {OutboxKey(position, 0): letter for position in range(count)}
        self.limits: list[int] = []
        self.empty = asyncio.Event()

    def topic_id_at(self, position: int) -> str:
        return "log-1"

    def outbox(self, limit: int) -> list[tuple[OutboxKey, Refused]]:
        self.limits.append(limit)
        return list(self.items.items())[:limit]

    def is_due(self, key: OutboxKey) -> bool:
        return key in self.items

    def acknowledge(self, keys: Iterable[OutboxKey]) -> None:
        for key in list(keys):
            del self.items[key]
        if not self.items:
            self.empty.set()


class Producer(AIOKafkaProducer):  # type: ignore[misc]  # as above
    """Takes every batch at once."""

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> "asyncio.Future[None]":
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        arrived.set_result(None)
        return arrived


def limits_of(outbox: Outbox) -> list[int]:
    """Empties the outbox; what was asked of it."""

    async def empty() -> None:
        producer = Producer(bootstrap_servers="127.0.0.1:1", max_batch_size=MAX_BATCH_BYTES)
        sender = OutboxSender(
            outbox,  # type: ignore[arg-type]  # the parts of a store that it uses
            producer,
            topics=TopicSettings(),
            sample_events=1,
            metrics=WorkerMetrics(),
        )
        running = asyncio.create_task(sender.run())
        async with asyncio.timeout(30):
            await outbox.empty.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await producer.stop()

    asyncio.run(empty())
    return outbox.limits


def test_as_many_items_are_taken_as_fit_a_batch() -> None:
    """Bodies that did not fit were built again for each batch."""
    limits = limits_of(Outbox(count=40, num_bytes=60_000))
    fitting = MAX_BATCH_BYTES // 60_000
    assert limits[0] == FIRST_ITEMS
    assert set(limits[1:-1]) == {fitting}


@pytest.mark.parametrize(("num_bytes", "limit"), [(10, MAX_ITEMS), (2 * MAX_BATCH_BYTES, 1)])
def test_small_items_are_taken_together_and_large_ones_one_by_one(num_bytes: int, limit: int) -> None:
    """A request for each sample, and memory without bound, are both ends of the same."""
    limits = limits_of(Outbox(count=FIRST_ITEMS + 3, num_bytes=num_bytes))
    assert limits[1] == limit
