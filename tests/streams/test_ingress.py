from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types

from storage.errors import SetupError
from streams.dead_letters import list_dead_letters
from streams.events import MAX_EVENT_BYTES, Action, Event, Impression, decode_event, encode_event, encoding_of
from streams.forwarding import ORIGIN
from streams.ingress import run_ingress
from streams.ingress_settings import IngressSettings
from streams.kafka_settings import KafkaSettings
from streams.plain_log import read_topic
from streams.topics import TopicSettings, describe_topic
from tests.brokers import Broker, fresh_topics, wait_until
from tests.streams.ingresses import IngressProcess, has_taken, with_sources

ACTIONS = ("like", "click")
NOW_MS = 1_700_000_000_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_what_others_send_arrives_by_user_each_once(broker: Broker, tmp_path: Path) -> None:
    """Producers that key by item, or that give no ids, would have their events lost or counted twice."""
    kafka, topics = fresh_topics(broker)
    topics = with_sources(kafka, topics)
    shown = [Impression(user_id=f"u{n % 7}", ts_ms=NOW_MS + n, items=["a", "b"]) for n in range(200)]
    acted = [
        Action(event_id=f"a{n}", user_id=f"u{n % 7}", ts_ms=NOW_MS + n, item_id="a", action="like") for n in range(50)
    ]
    send(kafka, topics.impressions, [(b"", untyped(each)) for each in shown])
    send(kafka, topics.actions, [(each.item_id.encode(), encode_event(each, "msgpack")) for each in acted])
    with IngressProcess(kafka, topics, tmp_path / "log", ACTIONS) as process:
        wait_until("all forwarded", partial(has_taken, process, 250))
        assert process.end() == 0, process.log.read_text()
    # A second run goes on where the first one committed.
    later = Action(user_id="u9", ts_ms=NOW_MS, item_id="a", action="click")
    send(kafka, topics.actions, [(b"x", encode_event(later))])
    with IngressProcess(kafka, topics, tmp_path / "log", ACTIONS) as process:
        wait_until("the later one forwarded", partial(has_taken, process, 1))
        assert process.end() == 0, process.log.read_text()
    sent: list[Event] = [*shown, *acted, later]
    records = list(read_topic(kafka, topics.events))
    events = [decode_event(record.key, record.value, record.timestamp, frozenset(ACTIONS)) for record in records]
    assert sorted(map(without_id, events)) == sorted(map(without_id, sent))
    assert len({event.event_id for event in events}) == len(events) == 251
    assert {event.event_id for event in events} >= {event.event_id for event in acted}
    assert {encoding_of(record.value) for record in records if b"like" in record.value} == {"msgpack"}
    users = {(record.key, record.partition) for record in records}
    assert len(users) == 8, "a user's events are in one partition"
    check_origins(kafka, topics, records)


def check_origins(kafka: KafkaSettings, topics: TopicSettings, records: list[Any]) -> None:
    """Ids that were made say where the record came from, under the topic's id."""
    described = describe_topic(kafka, topics.impressions)
    assert described is not None
    for record in records:
        ((name, origin),) = record.headers
        assert name == ORIGIN
        topic, partition, offset = origin.decode().rsplit("-", 2)
        event_id = msgspec.json.decode(record.value)["event_id"] if encoding_of(record.value) == "json" else None
        if topic == topics.impressions:
            assert event_id == f"{described.topic_id}-{partition}-{offset}"


def test_what_is_no_event_becomes_a_dead_letter_of_its_own_topic(tansu: Broker, tmp_path: Path) -> None:
    """One bad record stops a topic of others, or vanishes."""
    kafka, topics = fresh_topics(tansu)
    topics = with_sources(kafka, topics, num_partitions=6)
    action = Action(user_id="u", ts_ms=NOW_MS, item_id="a", action="like")
    filled = encode_event(action).ljust(MAX_EVENT_BYTES)
    # Without an id, which the ingress adds, it is not too large.
    grows = Impression(user_id="u", ts_ms=NOW_MS, items=["a"], context={"text": "x" * (MAX_EVENT_BYTES - 130)})
    assert MAX_EVENT_BYTES - 60 < len(encode_event(grows)) <= MAX_EVENT_BYTES
    bad = {
        "malformed_json": b"{",
        "unknown_type": encode_event(action),
        "missing_field": b'{"user_id":"u","ts_ms":1}',
        "items_length": b'{"user_id":"u","ts_ms":1,"items":[]}',
        "too_large": b" " * (MAX_EVENT_BYTES + 1),
    }
    send(kafka, topics.impressions, [(b"k", value) for value in (*bad.values(), encode_event(grows))])
    send(kafka, topics.actions, [(b"k", filled), (b"k", untyped(action)), (b"k", untyped(action, action="teleport"))])
    with IngressProcess(kafka, topics, tmp_path / "log", ACTIONS) as process:
        wait_until("all taken", partial(has_taken, process, len(bad) + 4))
        refused = process.figures().by_label("headwater_refused_total", "cause")
        assert process.end() == 0, process.log.read_text()
    letters = list_dead_letters(kafka, topics, 100)
    assert {letter.cause for letter in letters if letter.topic == topics.impressions} == set(bad)
    assert {letter.cause for letter in letters if letter.topic == topics.actions} == {"unknown_action"}
    assert len({letter.letter_id for letter in letters}) == len(letters) == 7
    assert refused == {**dict.fromkeys(bad, 1.0), "too_large": 2.0, "unknown_action": 1.0}
    (first, second) = read_topic(kafka, topics.events)
    assert {first.key, second.key} == {b"u"}
    heads = {letter.cause: letter.head for letter in letters}
    assert heads["malformed_json"] == b"{"


def test_a_setup_that_cannot_work_is_refused(tansu: Broker) -> None:
    kafka, topics = fresh_topics(tansu)
    with pytest.raises(SetupError, match=r"no topic to forward: set topics\.impressions"):
        run_ingress(kafka, topics, ACTIONS, IngressSettings())
    missing = TopicSettings(prefix=topics.prefix, impressions="nowhere")
    with pytest.raises(SetupError, match="topic nowhere does not exist"):
        run_ingress(kafka, missing, ACTIONS, IngressSettings())


def send(kafka: KafkaSettings, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    """Send records of others."""
    producer = KafkaProducer(bootstrap_servers=list(kafka.bootstrap_servers))
    for key, value in records:
        producer.send(topic, key=key, value=value)
    producer.flush(timeout=30)
    producer.close()


def untyped(event: Event, **changed: Any) -> bytes:
    """The event as those send it who have a topic for each type."""
    fields = {**msgspec.to_builtins(event), **changed}
    del fields["type"]
    return msgspec.json.encode(fields)


def without_id(event: Event) -> bytes:
    """The event but for its id."""
    return encode_event(msgspec.structs.replace(event, event_id=None))
