import asyncio
import threading
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]  # aiokafka ships no types
from aiokafka.consumer.fetcher import FetchResult  # type: ignore[import-untyped]  # as above
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

    def __init__(self, held: set[int], slow: set[int] | None = None) -> None:
        self.held = held
        self.slow = slow or set()
        self.opening: set[int] = set()
        self.placed: list[dict[int, chunks.Bounds]] = []

    async def place(self, bounds: dict[int, chunks.Bounds]) -> dict[int, int]:
        self.placed.append(bounds)
        self.opening = set(bounds) & self.slow
        self.held = set(bounds) - self.opening
        return dict.fromkeys(self.held, 7)


def _consumer(positions: Positions, assigned: set[TP]) -> Any:
    async def offsets(*tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, 3)

    async def seek_wait(wanted: dict[TP, int]) -> None:
        consumer.sought.append(wanted)

    consumer: Any = object.__new__(chunks.ChunkConsumer)
    consumer.transport = SimpleNamespace(positions=positions)
    consumer.sought, consumer.flow_active = [], True
    consumer._next, consumer._astray, consumer._refused, consumer._waiting = {}, set(), set(), set()
    consumer._goals = {}
    consumer._active_partitions, consumer._paused_partitions = set(assigned), set()
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


def test_a_consumer_that_is_being_stopped_is_not_lost() -> None:
    """The watchdog would end, as if by a fault, a worker that is told to stop while its consumer leaves its group."""
    task, stopped = SimpleNamespace(done=lambda: True), threading.Event()
    consumer = _consumer(Positions(set()), set())
    consumer._thread = SimpleNamespace(_consumer=SimpleNamespace(_coordinator=SimpleNamespace(_coordination_task=task)))
    consumer._stopped, consumer._crashed = stopped, threading.Event()
    assert not consumer.in_group()
    stopped.set()
    assert consumer.in_group()


def test_a_partition_that_is_not_open_yet_waits_and_the_others_go_on() -> None:
    """One restore of gigabytes would hold back every other partition of the worker."""
    zero, one = TP("events", 0), TP("events", 1)
    positions = Positions(set(), slow={1})
    consumer = _consumer(positions, {zero, one})
    asyncio.run(consumer._seek_astray())
    asyncio.run(consumer._seek_astray())
    assert (consumer.sought, len(positions.placed)) == ([{zero: 7}], 1)
    assert consumer._active_partitions == {zero}
    positions.slow, positions.opening, positions.held = set(), set(), {0, 1}
    asyncio.run(consumer._seek_astray())
    assert consumer.sought == [{zero: 7}, {one: 7}]
    assert consumer._active_partitions == {zero, one}


def test_a_partition_that_is_lost_while_it_opens_is_given_up() -> None:
    """Its store would be opened, and held, by a worker that it does not belong to."""
    positions = Positions(set(), slow={0})
    assigned = {TP("events", 0)}
    consumer = _consumer(positions, assigned)
    asyncio.run(consumer._seek_astray())
    assigned.clear()
    asyncio.run(consumer._seek_astray())
    assert [set(bounds) for bounds in positions.placed] == [{0}, set()]


def _reading(*, end: int | None, applied: int | None, handed_out: int | None, read_to: int | None) -> Any:
    zero = TP("events", 0)
    positions = SimpleNamespace(topic="events", next_offset=lambda _: applied)
    consumer: Any = object.__new__(chunks.ChunkConsumer)
    consumer.transport = SimpleNamespace(positions=positions)
    consumer.assignment = lambda: {zero}
    consumer._goals, consumer._next = {zero: 10}, {} if handed_out is None else {zero: handed_out}
    consumer.highwater, consumer.read_to = lambda _: end, lambda _: read_to
    return consumer


def test_what_is_read_and_not_applied_is_lag() -> None:
    """The alarm is silent while chunks pile up before a slow store."""
    assert _reading(end=20, applied=5, handed_out=15, read_to=15).lag(0) == 15
    assert _reading(end=20, applied=5, handed_out=None, read_to=15).lag(0) == 15
    assert _reading(end=20, applied=15, handed_out=15, read_to=15).lag(0) == 5


def test_markers_behind_the_last_record_are_no_lag() -> None:
    """After each transaction the worker is one record behind for ever, and never ready."""
    consumer = _reading(end=11, applied=9, handed_out=9, read_to=11)
    assert consumer.lag(0) == 0
    assert consumer.behind() == {0: 0}


def test_what_is_not_known_is_no_number() -> None:
    assert _reading(end=None, applied=5, handed_out=5, read_to=5).lag(0) is None
    assert _reading(end=20, applied=None, handed_out=None, read_to=None).lag(0) is None
    assert _reading(end=20, applied=None, handed_out=None, read_to=None).behind() == {0: None}


def test_a_partition_is_behind_until_what_was_there_is_applied() -> None:
    """A worker under steady load would never be ready."""
    assert _reading(end=20, applied=4, handed_out=8, read_to=8).behind() == {0: 6}
    assert _reading(end=20, applied=12, handed_out=14, read_to=14).behind() == {0: 0}


def test_records_come_as_they_are_parsed() -> None:
    """Each record is copied into a dataclass again."""
    fetched = chunks._ParsedRecords()
    records = SimpleNamespace(_consumer_record=lambda tp, record: ("copied", record))
    result = object.__new__(FetchResult)
    result._partition_records = records
    fetched[TP("events", 0)] = result
    assert records._consumer_record("tp", "record") == "record"
