import contextlib
import os
import signal
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.future import Future as KafkaFuture  # type: ignore[import-untyped]  # as above

from deploy.broker import EmbeddedBroker, free_port
from streams.events import Action, Event, Forget, Tick, UserUpdate, decode_event, encode_event
from streams.plain_log import read_topic
from streams.producer import Delivery, DeliveryCounts, EventProducer, ProducerFullError
from tests.brokers import Broker, fresh_topics


def test_events_arrive_keyed_by_user_and_are_reported(broker: Broker) -> None:
    """A user's events spread over partitions, or an event that got lost counts as delivered."""
    kafka, topics = fresh_topics(broker)
    told: list[tuple[Event, object]] = []
    with EventProducer(
        kafka.bootstrap_servers, topic=topics.events, on_delivery=lambda event, end: told.append((event, end))
    ) as producer:
        sent = [Action(event_id=f"e{n}", user_id=f"u{n % 3}", ts_ms=n, item_id="i", action="like") for n in range(60)]
        deliveries = [producer.send(event) for event in sent]
        producer.send(Tick(event_id="t", ts_ms=1))
        producer.flush()
        counts = producer.counts
    assert (counts.sent, counts.delivered, counts.failed) == (61, 61, 0)
    places = {event.event_id: delivery.result(0) for event, delivery in zip(sent, deliveries, strict=True)}
    records = [record for record in read_topic(kafka, topics.events) if record.key is not None]
    assert sorted(record.value for record in records) == sorted(map(encode_event, sent))
    assert len({(record.key, record.partition) for record in records}) == 3
    by_place = {Delivery(partition=r.partition, offset=r.offset): r.value for r in records}
    assert {event_id: by_place[place] for event_id, place in places.items()} == {
        event.event_id: encode_event(event) for event in sent
    }
    assert len(told) == 61


def test_a_request_to_forget_a_user_is_keyed_by_the_user(tansu: Broker) -> None:
    """In another partition it would be refused, or come before what it is to have forgotten."""
    kafka, topics = fresh_topics(tansu)
    with EventProducer(kafka.bootstrap_servers, topic=topics.events) as producer:
        before = producer.send(Action(user_id="ada", ts_ms=1, item_id="i", action="like"))
        asked = producer.forget_user("ada", event_id="f1")
        with pytest.raises(ValueError, match="user_id must be 1 to 256 bytes"):
            producer.forget_user("")
    assert asked.result(0) == Delivery(partition=before.result(0).partition, offset=before.result(0).offset + 1)
    (record,) = [record for record in read_topic(kafka, topics.events) if record.offset == asked.result(0).offset]
    event = decode_event(record.key, record.value, record.timestamp, frozenset())
    assert isinstance(event, Forget)
    assert (event.user_id, event.event_id) == ("ada", "f1")
    assert abs(event.ts_ms - record.timestamp) < 60_000


@pytest.mark.parametrize(
    "event",
    [
        Action(event_id="e", user_id="", ts_ms=1, item_id="i", action="like"),
        UserUpdate(event_id="e", user_id="u", ts_ms=1, features={"text": "x" * 300_000}),
    ],
)
def test_an_invalid_event_is_refused_before_anything_is_sent(tansu: Broker, event: Event) -> None:
    kafka, topics = fresh_topics(tansu)
    with EventProducer(kafka.bootstrap_servers, topic=topics.events) as producer:
        with pytest.raises(ValueError, match="must be"):
            producer.send(event)
        assert producer.counts.sent == 0


def test_a_failed_delivery_is_reported(tansu: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that the broker refused counts as delivered."""
    kafka, topics = fresh_topics(tansu)
    told: list[object] = []
    queued = KafkaFuture()
    with EventProducer(
        kafka.bootstrap_servers, topic=topics.events, on_delivery=lambda _, end: told.append(end)
    ) as producer:
        monkeypatch.setattr(producer._producer, "send", lambda *_, **__: queued)
        delivery = producer.send(Action(event_id="e", user_id="u", ts_ms=1, item_id="i", action="like"))
        queued.failure(KafkaTimeoutError())
        assert (producer.counts.delivered, producer.counts.failed) == (0, 1)
    assert [type(end) for end in told] == [KafkaTimeoutError]
    with pytest.raises(KafkaTimeoutError):
        delivery.result(0)


def test_a_broker_that_does_not_answer_leaves_memory_bounded(tmp_path: Path) -> None:
    """A shop that is up while its broker is not fills its memory with events."""
    with EmbeddedBroker(free_port(), tmp_path / "log") as broker:
        kafka, topics = fresh_topics(broker)
        with EventProducer(
            kafka.bootstrap_servers, topic=topics.events, max_in_flight=50, block_seconds=0.02
        ) as producer:
            producer.send(made(0)).result(10)
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                sent = fill(producer)
                tracemalloc.start()
                assert fill(producer) == fill(producer) == 0
                held, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                waiting = producer.counts.sent - producer.counts.delivered
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            producer.flush()
            assert sent == waiting == 50
            assert held < 100_000
            assert producer.send(made(1)).result(10), "there is room again"
            assert producer.counts == DeliveryCounts(sent=52, delivered=52, failed=0)


def fill(producer: EventProducer) -> int:
    """How many of 20 events more than there is room for were taken."""
    taken = 0
    for number in range(producer.max_in_flight + 20):
        with contextlib.suppress(ProducerFullError):
            producer.send(made(number))
            taken += 1
    return taken


def made(number: int) -> Action:
    return Action(event_id=f"e{number}", user_id="u", ts_ms=number, item_id="i", action="like")


def test_large_events_are_bounded_by_their_bytes(tansu: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand events of 256 KiB are two and a half gigabytes."""
    kafka, topics = fresh_topics(tansu)
    large = UserUpdate(user_id="u", ts_ms=1, features={"text": "x" * 200_000})
    with EventProducer(
        kafka.bootstrap_servers, topic=topics.events, max_in_flight_bytes=500_000, block_seconds=0
    ) as producer:
        queued = KafkaFuture()
        monkeypatch.setattr(producer._producer, "send", lambda *_, **__: queued)
        producer.send(large)
        producer.send(large)
        with pytest.raises(ProducerFullError, match=r"2 events \(400\d\d\d bytes\) are on their way"):
            producer.send(large)
        queued.failure(KafkaTimeoutError())
        assert (producer.counts.sent, producer.counts.failed) == (2, 2)
        monkeypatch.undo()
        assert producer.send(large).result(10)


def test_what_could_not_be_queued_takes_no_room(tansu: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure would make the producer smaller for ever."""
    kafka, topics = fresh_topics(tansu)
    with EventProducer(kafka.bootstrap_servers, topic=topics.events, max_in_flight=1, block_seconds=0) as producer:

        def fail(*_: object, **__: object) -> None:
            raise KafkaTimeoutError

        monkeypatch.setattr(producer._producer, "send", fail)
        for _ in range(3):
            with pytest.raises(KafkaTimeoutError):
                producer.send(made(0))
        assert producer.counts.sent == 0


def test_the_producer_is_idempotent(tansu: Broker) -> None:
    """kafka-python turns it off without a word where another setting speaks against it."""
    with EventProducer([tansu.address]) as producer:
        assert producer._producer.config["enable_idempotence"] is True
        assert producer._producer.config["acks"] in ("all", -1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_in_flight": 0}, "max_in_flight must be >= 1 event, got 0"),
        ({"max_in_flight_bytes": 1000}, "max_in_flight_bytes must be >= 262144, one event, got 1000"),
        ({"block_seconds": -1}, "block_seconds must be >= 0, got -1"),
    ],
)
def test_a_producer_without_room_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EventProducer(["127.0.0.1:1"], **settings)
