import asyncio
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]  # aiokafka ships no types

from deploy.broker import EmbeddedBroker, free_port
from storage.errors import SetupError
from streams import bulk
from streams.bulk import send_many
from streams.events import Action, Encoding, Event, InvalidEventError, Tick, UserUpdate, decode_event, encoding_of
from streams.partitioning import partition_of
from streams.plain_log import read_topic
from streams.producer import DeliveryCounts
from tests.brokers import Broker, fresh_topics


def made(count: int, num_users: int = 50) -> Iterator[Event]:
    """Actions whose times rise."""
    for number in range(count):
        yield Action(user_id=f"u{number % num_users}", ts_ms=number, item_id="i" * (number % 90 + 1), action="like")


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_all_arrive_where_the_producer_would_put_them_in_order(broker: Broker, encoding: Encoding) -> None:
    """A user's events that came in bulk are in another partition than those that came one by one, or in disorder."""
    kafka, topics = fresh_topics(broker)
    sent = list(made(7_000))
    assert send_many(kafka, topics.events, iter(sent), encoding=encoding) == DeliveryCounts(
        sent=7_000, delivered=7_000, failed=0
    )
    times: dict[str, list[int]] = defaultdict(list)
    for record in read_topic(kafka, topics.events):
        event = decode_event(record.key, record.value, record.timestamp, frozenset({"like"}))
        assert isinstance(event, Action)
        assert record.partition == partition_of(event.user_id, topics.num_partitions)
        assert encoding_of(record.value) == encoding
        times[event.user_id].append(event.ts_ms)
    assert sum(map(len, times.values())) == 7_000
    assert all(each == sorted(each) for each in times.values())


def test_large_events_and_none_are_sent(tansu: Broker) -> None:
    """An event larger than a batch is never sent, and the rest waits behind it."""
    kafka, topics = fresh_topics(tansu, num_partitions=1)
    assert send_many(kafka, topics.events, []) == DeliveryCounts(sent=0, delivered=0, failed=0)
    large: list[Event] = [
        UserUpdate(user_id="u", ts_ms=number, features={"text": "x" * size})
        for number, size in enumerate((10, 262_000, 10, 200_000, 200_000))
    ]
    assert send_many(kafka, topics.events, large).delivered == 5
    assert [record.value.count(b"x") > 1_000 for record in read_topic(kafka, topics.events)] == [
        *(False, True, False, True, True)
    ]


@pytest.mark.parametrize(
    "event",
    [
        Tick(ts_ms=1),
        Action(user_id="", ts_ms=1, item_id="i", action="like"),
        UserUpdate(user_id="u", ts_ms=-1, features={"a": 1}),
    ],
)
def test_what_a_worker_would_refuse_is_not_sent(tansu: Broker, event: Event) -> None:
    kafka, topics = fresh_topics(tansu)
    with pytest.raises(InvalidEventError):
        send_many(kafka, topics.events, [*made(3), event])


def test_a_topic_that_is_missing_is_one_line(tansu: Broker) -> None:
    kafka, _ = fresh_topics(tansu)
    with pytest.raises(SetupError, match="topic nowhere does not exist"):
        send_many(kafka, "nowhere", made(1))


def test_brokers_that_stop_hold_the_source_back(tmp_path: Path) -> None:
    """A data set is read into memory whole while the broker is away."""
    with EmbeddedBroker(free_port(), tmp_path / "log") as broker:
        kafka, topics = fresh_topics(broker)
        pid = broker.pid
        assert pid is not None
        taken = 0
        stopped = threading.Event()

        def source() -> Iterator[Event]:
            nonlocal taken
            for event in made(200_000):
                taken += 1
                if taken == 10_000:
                    os.kill(pid, signal.SIGSTOP)
                    stopped.set()
                yield event

        counts: list[DeliveryCounts] = []
        sending = threading.Thread(target=lambda: counts.append(send_many(kafka, topics.events, source())))
        sending.start()
        try:
            assert stopped.wait(30)
            held = -1
            while held != taken:
                held = taken
                sending.join(1)
        finally:
            os.kill(pid, signal.SIGCONT)
        sending.join(60)
        assert held < 100_000, "3 batches of 256 KiB for each of 4 partitions hold some 30,000 events"
        assert counts == [DeliveryCounts(sent=200_000, delivered=200_000, failed=0)]


def test_a_batch_that_fails_ends_it(tansu: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are missing and the importer says that all were delivered."""
    kafka, topics = fresh_topics(tansu)

    class Failing:
        """A producer whose batches fail."""

        def __init__(self, real: object) -> None:
            self.real = real

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

        async def send_batch(self, *_: object, **__: object) -> object:
            arrival = asyncio.get_running_loop().create_future()
            arrival.set_exception(KafkaTimeoutError())
            return arrival

    real = bulk.bulk_producer
    monkeypatch.setattr(bulk, "bulk_producer", lambda kafka: Failing(real(kafka)))
    with pytest.raises(SetupError, match=r"did not take all events .*is the broker still there"):
        send_many(kafka, topics.events, made(10))
