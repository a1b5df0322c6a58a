import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]  # aiokafka ships no types
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams import chunks


def test_the_names_of_faust_that_are_overridden_exist() -> None:
    """A new Faust calls another method, and chunks silently become single records again."""
    chunks.check_private_names()
    for name in ("getmany", "perform_seek", "on_buffer_full", "seek_wait", "_new_offset", "_new_consumer_thread"):
        assert callable(getattr(driver.Consumer, name))
        assert getattr(chunks.ChunkConsumer, name) is not None
    assert "_new_offset" in vars(chunks.ChunkConsumer)
    assert callable(driver.AIOKafkaConsumerThread._create_worker_consumer)


def test_a_faust_without_them_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_PRIVATE_NAMES", ((driver.Consumer, "_gone"),))
    with pytest.raises(ImportError, match=r"no Consumer._gone: install faust-streaming~=0.15.3"):
        chunks.check_private_names()


def test_the_names_of_aiokafka_that_are_set_exist() -> None:
    """Fetches wait a second and a half again, or aborted records come through."""
    source = AIOKafkaConsumer.__init__.__code__.co_names
    assert {"_fetch_max_wait_ms", "_isolation_level"} <= set(source)


class Positions:
    """Stands for the partitions of a worker."""

    topic = "events"

    def __init__(self, held: set[int]) -> None:
        self.held = held
        self.placed: list[dict[int, chunks.Bounds]] = []

    async def place(self, bounds: dict[int, chunks.Bounds]) -> dict[int, int]:
        self.placed.append(bounds)
        self.held = set(bounds)
        return dict.fromkeys(bounds, 7)


def _consumer(positions: Positions, assigned: set[TP]) -> Any:
    async def offsets(*tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, 3)

    async def seek_wait(wanted: dict[TP, int]) -> None:
        consumer.sought.append(wanted)

    consumer: Any = object.__new__(chunks.ChunkConsumer)
    consumer.transport = SimpleNamespace(positions=positions)
    consumer.sought, consumer.flow_active = [], True
    consumer._next, consumer._astray, consumer._refused = {}, set(), set()
    consumer._committed_offset = defaultdict(lambda: None)
    consumer.assignment = lambda: assigned
    consumer.earliest_offsets = consumer.highwaters = offsets
    consumer.seek_wait = seek_wait
    return consumer


def test_only_partitions_without_a_known_position_are_sought() -> None:
    """A seek while all is well drops what is under way."""
    zero, one = TP("events", 0), TP("events", 1)
    positions = Positions(set())
    consumer = _consumer(positions, {zero, one, TP("other", 0)})
    asyncio.run(consumer._seek_astray())
    asyncio.run(consumer._seek_astray())
    consumer.seek_later(1)
    asyncio.run(consumer._seek_astray())
    assert consumer.sought == [{zero: 7, one: 7}, {one: 7}]
    assert [set(bounds) for bounds in positions.placed] == [{0, 1}, {0, 1}]
    assert positions.placed[0][0] == chunks.Bounds(earliest=3, end=3, committed=None, refused=False)


def test_losing_the_last_partition_lets_it_go() -> None:
    """Its next owner waits for state that is held for ever."""
    positions = Positions({0})
    consumer = _consumer(positions, set())
    asyncio.run(consumer._seek_astray())
    asyncio.run(consumer._seek_astray())
    assert positions.placed == [{}]


def test_nothing_is_sought_during_a_rebalance() -> None:
    positions = Positions({0})
    consumer = _consumer(positions, {TP("events", 0)})
    consumer.flow_active = False
    asyncio.run(consumer._seek_astray())
    assert positions.placed == []
