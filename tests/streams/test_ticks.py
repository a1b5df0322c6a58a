"""Ticks: when an idle partition's owner appends one, and what time it tells."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError  # type: ignore[import-untyped]  # aiokafka ships no types

from storage.store_settings import StoreSettings
from streams.chunks import ChunkConsumer
from streams.events import Impression, Tick, encode_event
from streams.partitions import Partitions
from streams.producer import EventProducer
from streams.ticks import Ticker
from tests.brokers import Broker, fresh_topics, wait_until
from tests.streams.workers import WorkerThread


class Partition:
    """Stands for one partition: its log, its store, its consumer, and the producer that appends to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.end = self.position = 5
        self.ticks: list[int] = []
        self.error: Exception | None = None
        self.is_revoked = False
        self.store = SimpleNamespace(epoch=0, applied=4, num_timers=1, watermark_ms=50_000)
        self.stores: dict[int, Any] = {3: self.store}
        monkeypatch.setattr("streams.ticks.time", SimpleNamespace(monotonic=lambda: self.now))
        consumer = SimpleNamespace(read_to=self.read_to, highwater=lambda _: self.end)
        partitions = cast("Partitions", SimpleNamespace(topic="events", stores=self.stores))
        self.ticker = Ticker(cast("ChunkConsumer", consumer), partitions, SimpleNamespace(send_and_wait=self.send))

    def read_to(self, partition: Any) -> int | None:
        return None if self.is_revoked else self.position

    async def send(self, topic: str, value: bytes, *, partition: int) -> Any:
        assert (topic, partition) == ("events", 3)
        if self.error is not None:
            raise self.error
        ts_ms = int(value.decode().split('"ts_ms":')[1].rstrip("}"))
        assert value == encode_event(Tick(ts_ms=ts_ms))
        self.ticks.append(ts_ms)
        self.end += 1
        return SimpleNamespace(offset=self.end - 1)

    def apply(self, ts_ms: int = 0) -> None:
        """Apply what is in the log."""
        self.position, self.store.applied = self.end, self.end - 1
        self.store.watermark_ms = max(self.store.watermark_ms, ts_ms, *self.ticks, 0)

    def wait(self, seconds: float) -> list[int]:
        """Let the time pass and look once; all ticks so far."""
        self.now += seconds
        asyncio.run(self.ticker.tick())
        return self.ticks


@pytest.fixture
def partition(monkeypatch: pytest.MonkeyPatch) -> Partition:
    return Partition(monkeypatch)


def test_ticks_tell_the_event_time_plus_how_long_nothing_came(partition: Partition) -> None:
    """Session gaps of an idle partition would never end; or, by the wall clock, end years too early in a replay."""
    assert partition.wait(1) == []
    assert partition.wait(1) == [51_000]
    partition.apply()
    assert partition.wait(1.25) == [51_000, 52_250]
    partition.apply()
    assert partition.wait(1)[-1] == 53_250


def test_without_a_timer_nothing_is_appended(partition: Partition) -> None:
    """An idle topic would fill with ticks for ever."""
    partition.store.num_timers = 0
    assert [partition.wait(1) for _ in range(3)] == [[], [], []]
    partition.store.num_timers = 1
    assert partition.wait(10) == []
    assert partition.wait(1) == [51_000]


def test_while_records_wait_nothing_is_appended(partition: Partition) -> None:
    """Event time would run ahead of events that are in the log already, and cut their sessions."""
    partition.end = 9
    assert [partition.wait(1) for _ in range(3)] == [[], [], []]
    partition.position = 9
    assert partition.wait(1) == []
    partition.apply(60_000)
    assert partition.wait(1) == []
    assert partition.wait(1) == [61_000]


def test_the_next_tick_waits_until_the_former_is_applied(partition: Partition) -> None:
    """Two ticks over one stretch would count it twice."""
    partition.wait(1)
    partition.wait(1)
    assert partition.wait(1) == [51_000]
    partition.position = partition.end
    assert partition.wait(1) == [51_000]


def test_a_record_begins_the_idleness_anew(partition: Partition) -> None:
    """Time before a record would be counted after it."""
    partition.wait(1)
    partition.wait(1)
    partition.end += 1
    partition.apply(70_000)
    assert partition.wait(1) == [51_000]
    assert partition.wait(1) == [51_000, 71_000]


def test_a_topic_made_anew_begins_anew(partition: Partition) -> None:
    """Offsets of the former log say nothing of this one."""
    partition.wait(1)
    partition.store.epoch = 1
    assert partition.wait(50) == []
    assert partition.wait(1) == [51_000]


def test_a_partition_that_went_and_came_back_begins_anew(partition: Partition) -> None:
    """Another owner has moved its time on meanwhile."""
    partition.wait(1)
    del partition.stores[3]
    partition.wait(60)
    partition.stores[3] = partition.store
    assert partition.wait(1) == []
    assert partition.wait(1) == [51_000]


@pytest.mark.parametrize("revoked", [False, True])
def test_a_broker_that_is_away_or_a_revoked_partition_ends_nothing(partition: Partition, *, revoked: bool) -> None:
    """The worker would be restarted for want of a tick."""
    partition.wait(1)
    partition.is_revoked, partition.error = revoked, KafkaConnectionError("away")
    assert partition.wait(1) == []
    partition.is_revoked, partition.error = False, None
    partition.wait(1)
    assert len(partition.wait(1)) >= 1


def test_an_idle_user_is_sent_to_be_learned_without_any_further_event(tansu: Broker, tmp_path: Path) -> None:
    """The whole path: worker, tick, timer, sample."""
    kafka, topics = fresh_topics(tansu, num_partitions=1)
    with EventProducer(kafka.bootstrap_servers, topic=topics.events) as producer:
        producer.send(Impression(user_id="ada", ts_ms=1_000, items=["a", "b"])).result(10)
    settings = StoreSettings(folder=tmp_path, session_gap_seconds=1.5)
    with WorkerThread(kafka, topics, settings) as worker:
        wait_until("the sample is sent", lambda: worker.state().get("counters", {}).get("headwater_samples_total"))
        state = worker.state()["partitions"]["0"]
        assert 2 <= state["applied"] <= 4
