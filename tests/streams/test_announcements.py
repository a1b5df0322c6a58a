"""Announcements only hasten what the store says: heard, lost or made up."""

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]  # the same

from storage.manifest import Pointer, decode_pointer
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.announcements import Announcements, Announcer, connect_announcer
from streams.kafka_settings import KafkaSettings
from streams.learned_model import LearnedModel
from streams.topics import TopicSettings, admin_client
from tests.brokers import Broker, fresh_topics
from tests.streams.learner_bench import LEARN, MODEL
from tests.streams.made_samples import TOPIC

WAIT_SECONDS = 30
POINTER = Pointer(generation=3, run_id="run", version=7, manifest_sha256="0" * 64)

Listen = Callable[[KafkaSettings, str], threading.Semaphore]


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listen]:
    """Listeners for the model `m`, each of which counts what it heard."""
    monkeypatch.setattr("streams.announcements.RETRY_SECONDS", 0.1)
    started: list[Announcements] = []

    def start(kafka: KafkaSettings, topic: str) -> threading.Semaphore:
        heard = threading.Semaphore(0)
        started.append(Announcements(kafka, topic, "m", heard.release))
        started[-1].start()
        return heard

    yield start
    for each in started:
        each.stop()


def announcer_of(kafka: KafkaSettings, topics: TopicSettings, model: str) -> Announcer:
    found = connect_announcer(kafka, topics.snapshots, model)
    assert found is not None
    return found


def test_what_is_announced_is_heard_by_those_who_follow_the_model(broker: Broker, listen: Listen) -> None:
    """A version waits for the next look, or every server looks for every model of the cluster."""
    kafka, topics = fresh_topics(broker)
    heard = listen(kafka, topics.snapshots)
    for model in ("other", "m", "other"):
        announcer = announcer_of(kafka, topics, model)
        announcer.announce(POINTER)
        announcer.close()
    assert heard.acquire(timeout=WAIT_SECONDS)
    assert not heard.acquire(timeout=0.5)


def test_a_topic_that_is_made_later_is_heard_and_rubbish_is_not(tansu: Broker, listen: Listen) -> None:
    """A cluster of before has no such topic; whoever may write to it must not be able to stop a server."""
    kafka, topics = fresh_topics(tansu)
    with admin_client(kafka) as admin:
        admin.delete_topics([topics.snapshots])
    assert connect_announcer(kafka, topics.snapshots, "m") is None
    heard = listen(kafka, topics.snapshots)
    with admin_client(kafka) as admin:
        admin.create_topics({topics.snapshots: {"num_partitions": 1, "replication_factor": 1, "configs": {}}})
    producer = KafkaProducer(bootstrap_servers=list(kafka.bootstrap_servers))
    for key, value in ((None, b"x"), (b"\xff", None), (b"m" * 9, b"{")):
        producer.send(topics.snapshots, key=key, value=value)
    producer.send(topics.snapshots, key=b"m", value=b"no pointer")
    producer.close()
    assert heard.acquire(timeout=WAIT_SECONDS)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_broker_that_is_away_ends_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server answers without Kafka's news."""
    caplog.set_level(logging.CRITICAL, "kafka")
    monkeypatch.setattr("streams.announcements.RETRY_SECONDS", 0.1)
    away = KafkaSettings(bootstrap_servers=("127.0.0.1:1",), connect_seconds=0.1)
    announcements = Announcements(away, "snapshots", "m", lambda: None)
    logged = threading.Event()
    watch = logging.Handler()
    watch.emit = lambda record: logged.set()  # type: ignore[method-assign]  # one line is all that is waited for
    logging.getLogger("streams.announcements").addHandler(watch)
    try:
        announcements.start()
        assert logged.wait(WAIT_SECONDS)
    finally:
        logging.getLogger("streams.announcements").removeHandler(watch)
        announcements.stop()
    # kafka-python leaves the sockets of refused connections to the garbage collector.
    gc.collect()


class Producer:
    """Takes what is sent, or has no room for it."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.sent: list[tuple[str, bytes, bytes]] = []
        self.errbacks: list[Callable[[Exception], None]] = []

    def send(self, topic: str, *, key: bytes, value: bytes) -> Any:
        if self.full:
            raise KafkaTimeoutError("no room")
        self.sent.append((topic, key, value))
        return self

    def add_errback(self, errback: Callable[[Exception], None]) -> None:
        self.errbacks.append(errback)


def test_what_cannot_be_announced_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A learner would end because nobody could be told what servers find by themselves."""
    Announcer(Producer(full=True), "snapshots", "m").announce(POINTER)
    assert "a version was not announced in snapshots, servers find it by themselves" in caplog.text
    caplog.clear()
    producer = Producer()
    Announcer(producer, "snapshots", "m").announce(POINTER)
    producer.errbacks[0](KafkaTimeoutError("later"))
    assert "was not announced in snapshots" in caplog.text
    assert caplog.text.count("later") == 1


def test_a_version_is_announced_once_latest_names_it_and_none_that_is_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers that look too early look in vain, and then wait."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path), model="m"))
    opened, producer = LearnedModel.open(store, MODEL, LEARN, {TOPIC: "t1"}), Producer()
    opened.announcer = Announcer(producer, "snapshots", "m")
    opened.cut({}, {})()
    monkeypatch.setattr(opened.gate, "objection", lambda *_: "bad")
    opened.cut({}, {})()
    ((topic, key, value),) = producer.sent
    assert (topic, key) == ("snapshots", b"m")
    assert decode_pointer(value, "the topic") == store.latest()
