import pytest
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.future import Future as KafkaFuture  # type: ignore[import-untyped]  # as above

from streams.events import Action, Event, Tick, UserUpdate, encode_event
from streams.plain_log import read_topic
from streams.producer import Delivery, EventProducer
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
