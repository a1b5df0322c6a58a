import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from storage.errors import SetupError
from streams.chunks import ChunkConsumer
from streams.kafka_settings import KafkaSettings
from streams.partitions import Partitions
from streams.topics import TopicDescription
from streams.watchdog import Watchdog


class Consumer:
    """Stands for the consumer of one partition."""

    def __init__(self) -> None:
        self.lives = True
        self.position: int | None = 5
        self.end = 5
        self.assigned: set[object] = {TP("events", 0)}

    def in_group(self) -> bool:
        return self.lives

    def assignment(self) -> set[object]:
        return self.assigned

    def highwater(self, _: object) -> int:
        return self.end

    def read_to(self, _: object) -> int | None:
        return self.position


class Ended(BaseException):
    """Instead of the end of the process."""


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Consumer:
    def exit_now(reason: str, error: BaseException | None = None) -> None:
        raise Ended(reason)

    monkeypatch.setattr("streams.watchdog.exit_now", exit_now)
    return Consumer()


def _look(consumer: Consumer, *times: float, stores: Any = (0,), topic_id: str = "t", holds_back: bool = False) -> None:
    partitions = SimpleNamespace(
        held=set(stores),
        topic="events",
        next_offset=lambda _: 5,
        description=TopicDescription(topic_id=topic_id, num_partitions=1),
    )
    watchdog = Watchdog(
        cast("ChunkConsumer", consumer),
        cast("Partitions", partitions),
        KafkaSettings(),
        60.0,
        holds_back=lambda: holds_back,
    )

    async def look() -> None:
        for now in times:
            await watchdog.check(now)

    asyncio.run(look())


def test_waiting_records_that_are_not_applied_end_the_process(consumer: Consumer) -> None:
    """Faust's consumer stops without a word, and the worker looks well for ever."""
    consumer.end = 6
    _look(consumer, 0, 59)
    with pytest.raises(Ended, match="no record of partition 0 was applied for 60 s"):
        _look(consumer, 0, 59, 60)


def test_records_that_wait_for_room_do_not_end_the_process(consumer: Consumer) -> None:
    """A worker whose samples Kafka does not take would be restarted for ever, and read its state anew each time."""
    consumer.end = 6
    _look(consumer, 0, 1000, holds_back=True)


def test_a_transaction_marker_at_the_end_is_no_waiting_record(consumer: Consumer) -> None:
    """A marker is no record: the applied offset stays one short of the end for ever."""
    consumer.end = 6
    consumer.position = 6
    _look(consumer, 0, 1000)


def test_a_partition_that_is_never_sought_ends_the_process(consumer: Consumer) -> None:
    """A consumer that hangs in a rebalance has no position, and so nothing seems to wait."""
    consumer.position = None
    with pytest.raises(Ended, match="no record of partition 0 was applied for 60 s"):
        _look(consumer, 0, 60)


def test_a_partition_that_is_no_longer_assigned_does_not_end_the_process(consumer: Consumer) -> None:
    consumer.position, consumer.assigned = None, {TP("events", 1)}
    _look(consumer, 0, 1000)


def test_a_consumer_that_left_its_group_ends_the_process(consumer: Consumer) -> None:
    consumer.lives = False
    with pytest.raises(Ended, match="left its group"):
        _look(consumer, 0)


def test_a_topic_made_anew_under_an_idle_worker_ends_the_process(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka loses all partitions of a topic that is deleted and made again, and idles."""
    consumer.assigned = set()
    found: list[TopicDescription | None] = [TopicDescription(topic_id="t", num_partitions=1)]
    monkeypatch.setattr("streams.watchdog.describe_topic", lambda *_: found[0])
    _look(consumer, 0, 60, stores=())
    found[0] = None
    _look(consumer, 0, 60, stores=())
    found[0] = TopicDescription(topic_id="new", num_partitions=1)
    _look(consumer, 0, 59, stores=())
    _look(consumer, 0, 60, stores=(), topic_id="")
    with pytest.raises(Ended, match="topic events was made anew"):
        _look(consumer, 0, 60, stores=())


def test_an_idle_worker_waits_for_its_broker(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise SetupError("no answer")

    consumer.assigned = set()
    monkeypatch.setattr("streams.watchdog.describe_topic", unreachable)
    _look(consumer, 0, 60, 120, stores=())
