"""Tailing the topic `items` on a real broker."""

import gc
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types

from deploy.broker import EmbeddedBroker, free_port
from streams.catalogue import Catalogue
from streams.items import Item, encode_item
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings, create_topics

WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    with EmbeddedBroker(free_port(), tmp_path_factory.mktemp("broker") / "broker.log") as broker:
        yield KafkaSettings(bootstrap_servers=(broker.address,))


@pytest.fixture
def topics(kafka: KafkaSettings, request: pytest.FixtureRequest) -> TopicSettings:
    """Topics of the test's own."""
    topics = TopicSettings(prefix=f"{request.node.name[:80]}.", num_partitions=1)
    create_topics(kafka, topics)
    return topics


@pytest.fixture
def producer(kafka: KafkaSettings) -> Iterator[Any]:
    producer = KafkaProducer(bootstrap_servers=list(kafka.bootstrap_servers))
    yield producer
    producer.close()


@pytest.fixture
def catalogue_factory(kafka: KafkaSettings) -> Iterator[Callable[[str], Catalogue]]:
    started: list[Catalogue] = []

    def start(topic: str) -> Catalogue:
        catalogue = Catalogue(kafka, topic)
        started.append(catalogue)
        catalogue.start()
        until(lambda: catalogue.ready)
        return catalogue

    yield start
    for catalogue in started:
        catalogue.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not so after {WAIT_SECONDS} s"
        time.sleep(0.01)


def send(producer: Any, topic: str, *items: Item) -> None:
    for item in items:
        producer.send(topic, key=item.item_id.encode(), value=encode_item(item))
    producer.flush()


def test_the_whole_topic_is_read_before_the_catalogue_is_ready(
    topics: TopicSettings, producer: Any, catalogue_factory: Callable[[str], Catalogue]
) -> None:
    """An unavailable item at the topic's end must be known before the first answer."""
    send(producer, topics.items, *(Item(item_id=f"i{number}", title=f"T{number}") for number in range(5_000)))
    send(producer, topics.items, Item(item_id="last", available=False))
    catalogue = catalogue_factory(topics.items)
    assert catalogue.num_items == 5_001
    assert catalogue.get("i4999") == Item(item_id="i4999", title="T4999")
    assert catalogue.get("other") is None
    assert catalogue.unavailable == {"last"}


def test_changes_and_removals_are_followed(
    topics: TopicSettings, producer: Any, catalogue_factory: Callable[[str], Catalogue]
) -> None:
    send(producer, topics.items, Item(item_id="a"), Item(item_id="b", available=False), Item(item_id="c"))
    catalogue = catalogue_factory(topics.items)
    assert catalogue.unavailable == {"b"}
    send(producer, topics.items, Item(item_id="b", title="back"), Item(item_id="c", available=False))
    until(lambda: catalogue.unavailable == {"c"})
    assert catalogue.get("b") == Item(item_id="b", title="back")
    for item_id in ("a", "c"):
        producer.send(topics.items, key=item_id.encode(), value=None)
    producer.flush()
    until(lambda: catalogue.num_items == 1)
    assert catalogue.get("a") is None
    assert catalogue.unavailable == frozenset()


def test_what_is_no_item_is_counted_and_passed_over(
    topics: TopicSettings,
    producer: Any,
    catalogue_factory: Callable[[str], Catalogue],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One broken record must cost one title, not the catalogue."""
    send(producer, topics.items, Item(item_id="a"))
    producer.send(topics.items, key=b"b", value=b"{")
    producer.send(topics.items, key=b"other", value=encode_item(Item(item_id="b")))
    send(producer, topics.items, Item(item_id="c"))
    catalogue = catalogue_factory(topics.items)
    assert (catalogue.num_items, catalogue.num_invalid) == (2, 2)
    assert f"{topics.items}[0]@1 is no valid item" in caplog.text


def test_an_empty_or_absent_topic_is_a_catalogue_too(
    topics: TopicSettings, producer: Any, catalogue_factory: Callable[[str], Catalogue]
) -> None:
    """A stream without titles is served all the same, and the titles are seen once they come."""
    empty = catalogue_factory(topics.items)
    absent = catalogue_factory("nowhere")
    assert (empty.num_items, absent.num_items) == (0, 0)
    send(producer, topics.items, Item(item_id="a"))
    until(lambda: empty.num_items == 1)


# kafka-python leaves the sockets of refused connections to the garbage collector; its log records hold them too.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_unreachable_broker_is_named_and_stopping_is_quick(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "kafka")
    catalogue = Catalogue(KafkaSettings(bootstrap_servers=("127.0.0.1:1",), connect_seconds=0.2), "items")
    catalogue.start()
    until(lambda: catalogue.problem is not None)
    assert "127.0.0.1:1" in str(catalogue.problem)
    assert not catalogue.ready
    catalogue.stop()
    assert not catalogue._thread.is_alive()
    gc.collect()


def test_the_newest_items_are_told_as_long_as_they_may_be_shown(
    topics: TopicSettings, producer: Any, catalogue_factory: Callable[[str], Catalogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is new would be shown to nobody; what was changed would be new again."""
    monkeypatch.setattr("streams.catalogue.MAX_NEWEST", 3)

    def came(item_id: str, kafka_ms: int, **news: Any) -> None:
        value = encode_item(Item(item_id=item_id, **news))
        producer.send(topics.items, key=item_id.encode(), value=value, timestamp_ms=kafka_ms)

    for number, item_id in enumerate("abcd"):
        came(item_id, 1_000 + number)
    came("b", 9_000, title="changed")
    producer.flush()
    catalogue = catalogue_factory(topics.items)
    assert catalogue.newest(0) == ["d", "c", "b"]
    assert catalogue.newest(1_002) == ["d", "c"]
    came("d", 9_001, available=False)
    producer.send(topics.items, key=b"c", value=None)
    producer.flush()
    until(lambda: catalogue.get("c") is None)
    assert catalogue.newest(0) == ["b"]
