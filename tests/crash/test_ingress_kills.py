"""Ingresses killed without warning while others send."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types

from storage.store_settings import StoreSettings
from streams.dead_letters import list_dead_letters
from streams.events import Action, Impression, encode_event
from streams.forwarding import ORIGIN
from streams.kafka_settings import KafkaSettings
from streams.plain_log import read_topic
from streams.topics import TopicSettings
from tests.brokers import BROKERS, Broker, fresh_topics, wait_until
from tests.streams.ingresses import IngressProcess, has_taken, with_sources
from tests.streams.workers import Views, WorkerThread

ACTIONS = ("like",)
NUM_EACH = 2_000
NUM_USERS = 20
PAUSE_SECONDS = 0.03
START_MS = 1_700_000_000_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("broker", [pytest.param("tansu", marks=pytest.mark.matrix), BROKERS[1]], indirect=True)
def test_kills_lose_and_repeat_nothing(broker: Broker, tmp_path: Path) -> None:
    """What was forwarded and not committed counts twice, or what was committed and not forwarded never."""
    kafka, topics = fresh_topics(broker)
    topics = with_sources(kafka, topics)
    stop = threading.Event()
    sender = threading.Thread(target=send_slowly, args=(kafka, topics, stop))
    with contextlib.ExitStack() as running:

        def started() -> IngressProcess:
            return running.enter_context(IngressProcess(kafka, topics, tmp_path / "log", ACTIONS))

        running.callback(sender.join)
        running.callback(stop.set)
        sender.start()
        for _ in range(2):
            process = started()
            wait_until("it forwards", partial(has_taken, process, 50), 90)
            process.kill()
        # The third one dies beside another, which took partitions from it and takes the rest.
        former = started()
        wait_until("it forwards", partial(has_taken, former, 50), 90)
        process = started()
        wait_until("the other one forwards", partial(has_taken, process, 20), 90)
        former.kill()
        stop.set()
        wait_until("all forwarded", partial(is_all_forwarded, kafka, topics), 90)
        assert process.end() == 0, process.log.read_text()
    num_records = check_forwarded(kafka, topics)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=1_000)
    with WorkerThread(kafka, topics, store) as worker:
        wait_until("all applied", partial(worker.settled, num_records))
        check_sequences(worker)


def check_sequences(worker: Views) -> None:
    """Each exposure is once in its user's sequence, with the action on it."""
    expected: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
    for shown, _ in made_pairs():
        expected[shown.user_id] += [(shown.ts_ms, item, int(item == "a")) for item in shown.items]
    for user_id, events in expected.items():
        found = worker.get("/sequence", user_id=user_id).json()
        columns = zip(found["ts_ms"], found["item_ids"], found["actions"], strict=True)
        assert sorted(columns) == sorted(events)


def check_forwarded(kafka: KafkaSettings, topics: TopicSettings) -> int:
    """Each record of others is in `events`, and its copies are one event; gives how many records there are."""
    values = forwarded_values(kafka, topics)
    assert sum(map(len, values.values())) > len(values), "no kill made anything be forwarded twice"
    assert all(len(set(copies)) == 1 for copies in values.values()), "a second copy is told by its id"
    ids = {msgspec.json.decode(copies[0])["event_id"] for copies in values.values()}
    assert len(ids) == len(values) == 2 * NUM_EACH
    (letter,) = list_dead_letters(kafka, topics, 100)
    assert (letter.cause, letter.topic) == ("malformed_json", topics.actions)
    return sum(map(len, values.values()))


def forwarded_values(kafka: KafkaSettings, topics: TopicSettings) -> dict[bytes, list[bytes]]:
    """Values in `events` by where they came from."""
    values: dict[bytes, list[bytes]] = defaultdict(list)
    for record in read_topic(kafka, topics.events):
        values[dict(record.headers)[ORIGIN]].append(record.value)
    return values


def is_all_forwarded(kafka: KafkaSettings, topics: TopicSettings) -> bool:
    return len(forwarded_values(kafka, topics)) >= 2 * NUM_EACH


def made_pairs() -> Iterator[tuple[Impression, Action]]:
    """An impression and an action on it at a time; every second impression has no id."""
    for number in range(NUM_EACH):
        user_id, request_id = f"u{number % NUM_USERS}", f"r{number}"
        shown = Impression(
            event_id=f"i{number}" if number % 2 else None,
            user_id=user_id,
            ts_ms=START_MS + 10 * number,
            items=["a", f"b{number}"],
            request_id=request_id,
        )
        acted = Action(
            user_id=user_id, ts_ms=START_MS + 10 * number + 1, item_id="a", action="like", request_id=request_id
        )
        yield shown, acted


def send_slowly(kafka: KafkaSettings, topics: TopicSettings, stop: threading.Event) -> None:
    """Send all pairs, keyed by request, slowly until `stop` is set, and a record that is no event."""
    producer = KafkaProducer(bootstrap_servers=list(kafka.bootstrap_servers))
    producer.send(topics.actions, key=b"k", value=b"{")
    for shown, acted in made_pairs():
        key = (shown.request_id or "").encode()
        producer.send(topics.impressions, key=key, value=encode_event(shown))
        producer.send(topics.actions, key=key, value=encode_event(acted))
        stop.wait(PAUSE_SECONDS)
    producer.flush(timeout=30)
    producer.close()
