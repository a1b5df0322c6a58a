"""Refused records sent again once what made them invalid is mended."""

import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types

from storage.errors import SetupError
from streams import dead_letter_replay
from streams.dead_letter_replay import LetterFilter, ReplayedLetter, replay_dead_letters
from streams.dead_letters import refuse, source_headers
from streams.events import Event, InvalidEventError, decode_event, decode_value
from streams.forwarding import ORIGIN
from streams.kafka_settings import KafkaSettings
from streams.plain_log import read_topic
from streams.topics import TopicSettings
from tests.brokers import Broker, fresh_topics
from tests.streams.ingresses import with_sources

BEFORE = frozenset({"like"})
AFTER = frozenset({"like", "teleport"})
NOW_MS = int(time.time() * 1000)


def action(**changed: Any) -> bytes:
    fields = {"type": "action", "user_id": "u", "item_id": "i", "action": "teleport", "ts_ms": NOW_MS}
    return msgspec.json.encode({**fields, **changed})


VALUES = [
    action(),
    action(event_id="own"),
    b"{",
    action(item_id="i" * 300),
    action(comment="x" * 70_000),
    action(user_id="v", action="like"),
    msgspec.msgpack.encode(msgspec.json.decode(action(ts_ms=NOW_MS - 1))),
]
"""By offset: unknown action twice, malformed, too long an id, over 64 KiB, another's key, MessagePack."""


def write_letters(kafka: KafkaSettings, topics: TopicSettings) -> None:
    """Dead letters as a worker and an ingress write them, the first one twice."""
    producer = KafkaProducer(bootstrap_servers=list(kafka.bootstrap_servers))
    for offset, value in enumerate([*VALUES, VALUES[0]]):
        send_letter(producer, topics, topics.events, offset % len(VALUES), value)
    theirs = msgspec.json.decode(action())
    del theirs["type"]
    send_letter(producer, topics, topics.actions, 0, msgspec.json.encode(theirs))
    producer.send(topics.dead_letters, key=b"k", value=b"of somebody else", partition=0)
    producer.flush(timeout=30)
    producer.close()


def send_letter(producer: Any, topics: TopicSettings, topic: str, offset: int, value: bytes) -> None:
    record = SimpleNamespace(offset=offset, key=b"u", value=value, timestamp=NOW_MS)
    with pytest.raises(InvalidEventError) as caught:
        (decode_event if topic == topics.events else decode_action)(record.key, value, NOW_MS, BEFORE)
    refused = refuse(record, caught.value)
    headers = source_headers(topic, 2, refused, "1" if topic == topics.events else "their-id")
    producer.send(topics.dead_letters, key=refused.key, value=refused.head, headers=headers, partition=2)


def decode_action(_: bytes, value: bytes, kafka_ms: int, actions: frozenset[str]) -> Event:
    return decode_value(value, kafka_ms, actions, "action")


def test_what_was_mended_is_sent_and_twice_is_once(broker: Broker) -> None:
    """Records that a setting refused are lost, or counted again at each try."""
    kafka, topics = fresh_topics(broker)
    topics = with_sources(kafka, topics)
    write_letters(kafka, topics)
    planned = replay_dead_letters(kafka, topics, AFTER, LetterFilter(), dry_run=True)
    assert list(read_topic(kafka, topics.events)) == []
    first = replay_dead_letters(kafka, topics, AFTER, LetterFilter())
    again = replay_dead_letters(kafka, topics, AFTER, LetterFilter())
    assert first == again == planned
    results = {letter.offset: letter.result for letter in first if letter.topic == topics.events}
    assert results == {0: "sent", 1: "sent", 2: "refused", 3: "refused", 4: "incomplete", 5: "sent", 6: "sent"}
    assert [letter.result for letter in first if letter.topic == topics.actions] == ["sent"]
    check_messages(first)
    records = list(read_topic(kafka, topics.events))
    events = [decode_event(record.key, record.value, NOW_MS, AFTER) for record in records]
    ids = Counter(event.event_id for event in events)
    assert len(ids) == 5
    assert set(ids.values()) == {2}, "both times the same id, by which the store drops the second"
    assert "own" in ids
    origins = {dict(record.headers)[ORIGIN].decode() for record in records}
    assert f"{topics.events}-2-5" in origins
    assert f"{topics.actions}-2-0" in origins


def check_messages(letters: list[ReplayedLetter]) -> None:
    """Why a letter was not sent now, and why it was refused then."""
    messages = {letter.offset: letter.message for letter in letters if letter.result != "sent"}
    assert messages[2].startswith("malformed_json: ")
    assert messages[3].startswith("id_length: ")
    assert messages[4].startswith("the dead letter holds 65536 of 70")
    assert {letter.offset: letter.cause for letter in letters if letter.offset in (1, 5)} == {
        1: "unknown_action",
        5: "wrong_key",
    }


def test_only_what_is_chosen_is_sent(tansu: Broker) -> None:
    """One setting that was mended sends thousands of others, too."""
    kafka, topics = fresh_topics(tansu)
    topics = with_sources(kafka, topics)
    write_letters(kafka, topics)

    def chosen(**filters: Any) -> list[int]:
        found = replay_dead_letters(kafka, topics, AFTER, LetterFilter(**filters), dry_run=True)
        return [letter.offset for letter in found]

    assert chosen(causes=("wrong_key",)) == [5]
    assert chosen(causes=("wrong_key", "id_length")) == [3, 5]
    assert chosen(topic=topics.actions) == [0]
    assert chosen(topic=topics.events, partition=2, offset=6) == [6]
    assert chosen(partition=1) == []
    assert chosen(limit=3) == [0, 1, 2]


def test_a_choice_that_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="limit must be >= 1, got 0"):
        LetterFilter(limit=0)
    with pytest.raises(ValueError, match="offset 5 needs a partition, too"):
        LetterFilter(offset=5)


def test_a_broker_that_goes_away_is_one_line(tansu: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka, topics = fresh_topics(tansu)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionResetError("gone")

    monkeypatch.setattr(dead_letter_replay, "_send", fail)
    with pytest.raises(SetupError, match=r"did not take all records \(gone\); run it again, twice is once"):
        replay_dead_letters(kafka, topics, AFTER, LetterFilter())
