from types import SimpleNamespace

import pytest

from deploy.broker import free_port
from storage.changes import Refused
from storage.errors import SetupError
from streams.dead_letters import list_dead_letters, read_dead_letter, source_headers
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings
from tests.brokers import Broker, fresh_topics

REFUSED = Refused(
    offset=7,
    kafka_ms=1234,
    cause="wrong_type",
    message="Expected `str`, got `int` é\ud800",
    key=b"u",
    head=b"{}",
    size=900,
    sha256="ab" * 32,
)


def test_headers_are_those_of_kafka_streams() -> None:
    """Tools that read KIP-1034's headers find nothing."""
    headers = dict(source_headers("events", 3, REFUSED, "log-1"))
    assert headers == {
        "__streams.errors.exception": b"streams.events.InvalidEventError",
        "__streams.errors.stacktrace": "streams.events.InvalidEventError: Expected `str`, got `int` é\\ud800".encode(),
        "__streams.errors.message": "Expected `str`, got `int` é\\ud800".encode(),
        "__streams.errors.topic": b"events",
        "__streams.errors.partition": b"3",
        "__streams.errors.offset": b"7",
        "headwater.cause": b"wrong_type",
        "headwater.size": b"900",
        "headwater.sha256": b"ab" * 32,
        "headwater.kafka_ms": b"1234",
        "headwater.id": b"log-1-3-7",
    }


def test_a_dead_letter_reads_as_it_was_written() -> None:
    headers = source_headers("events", 3, REFUSED, "log-1")
    letter = read_dead_letter(SimpleNamespace(headers=headers, key=REFUSED.key, value=REFUSED.head))
    assert letter is not None
    assert (letter.cause, letter.partition, letter.offset, letter.size) == ("wrong_type", 3, 7, 900)
    assert (letter.key, letter.head, letter.kafka_ms, letter.letter_id) == (b"u", b"{}", 1234, "log-1-3-7")


@pytest.mark.parametrize("changed", [{}, {"__streams.errors.offset": b"x"}, {"headwater.size": b"\xff"}])
def test_what_others_wrote_is_passed_over(changed: dict[str, bytes]) -> None:
    """One foreign record makes the list unreadable."""
    assert read_dead_letter(SimpleNamespace(headers=[("a", None)], key=None, value=None)) is None
    headers = dict(source_headers("events", 3, REFUSED, "log-1"))
    letter = read_dead_letter(SimpleNamespace(headers=list({**headers, **changed}.items()), key=b"u", value=b""))
    assert (letter is None) == bool(changed)


def test_listing_says_what_is_wrong(tansu: Broker) -> None:
    kafka, topics = fresh_topics(tansu)
    assert list_dead_letters(kafka, topics, 10, wait_seconds=0.3) == []
    with pytest.raises(ValueError, match="limit must be >= 1, got 0"):
        list_dead_letters(kafka, topics, 0)
    with pytest.raises(SetupError, match=r"topic nope-events.dlq does not exist"):
        list_dead_letters(kafka, TopicSettings(prefix="nope-"), 10)
    nowhere = KafkaSettings(bootstrap_servers=(f"127.0.0.1:{free_port()}",), connect_seconds=0.2)
    with pytest.raises(SetupError, match="no answer from Kafka"):
        list_dead_letters(nowhere, topics, 10)
