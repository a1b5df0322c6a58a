"""The worker end to end, on each broker."""

import hashlib
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types

from storage.entries import pack_position
from storage.errors import SetupError
from storage.store_settings import StoreSettings
from streams.broken import broken_records
from streams.dead_letters import list_dead_letters
from streams.events import Action, Event, Impression, Tick, UserUpdate
from streams.expected import ExpectedState, expected_state
from streams.kafka_settings import KafkaSettings
from streams.ownership import OWNER
from streams.plain_fold import FoldRules
from streams.plain_log import read_topic
from streams.producer import EventProducer
from streams.samples import Sample, decode_sample
from streams.topics import TopicSettings
from streams.worker import WorkerSettings, run_worker
from tests.brokers import Broker, fresh_topics, wait_until
from tests.streams.workers import WorkerProcess, WorkerThread

ACTIONS = ("click", "like", "dislike", "rate")


def make_events(seed: int, count: int, users: int = 40) -> list[Event]:
    """Events of all kinds; times run back now and then."""
    random_ = random.Random(seed)
    shown: dict[str, tuple[str, list[str]]] = {}
    events: list[Event] = []
    for number in range(count):
        user, ts_ms = f"user-{random_.randrange(users)}é", max(0, 1000 * number - random_.randrange(5000))
        event_id, kind = f"e{seed}-{number}", random_.random()
        if kind < 0.25:
            items = [f"i{random_.randrange(60)}" for _ in range(random_.randrange(1, 8))]
            request_id = f"r{number}"
            shown[user] = (request_id, items)
            events.append(Impression(event_id=event_id, ts_ms=ts_ms, user_id=user, items=items, request_id=request_id))
        elif kind < 0.3:
            events.append(UserUpdate(event_id=event_id, ts_ms=ts_ms, user_id=user, features={"n": number}))
        elif kind < 0.31:
            events.append(Tick(event_id=event_id, ts_ms=ts_ms))
        else:
            named, items = shown.get(user, (None, [f"i{random_.randrange(60)}"]))
            value = random_.choice([None, 1.0, 4.5])
            events.append(
                Action(
                    event_id=event_id,
                    ts_ms=ts_ms,
                    user_id=user,
                    item_id=random_.choice(items),
                    action=random_.choice(ACTIONS),
                    value=value,
                    request_id=random_.choice([None, named]),
                )
            )
    return events


def send_events(kafka: KafkaSettings, topics: TopicSettings, events: list[Event]) -> None:
    with EventProducer(kafka.bootstrap_servers, topic=topics.events) as producer:
        for event in events:
            producer.send(event)
    assert producer.counts.delivered == len(events)


def send_broken(kafka: KafkaSettings, topics: TopicSettings, count: int) -> list[tuple[bytes, bytes, str]]:
    """Send broken records; returns key, value and cause of each."""
    records = list(broken_records(int(time.time() * 1000), count))
    producer = KafkaProducer(bootstrap_servers=list(kafka.bootstrap_servers))
    for key, value, _ in records:
        producer.send(topics.events, key=key, value=value).get(30)
    producer.close()
    return [(key or b"", value, cause) for key, value, cause in records]


def plain_state(kafka: KafkaSettings, topics: TopicSettings, store: StoreSettings) -> ExpectedState:
    """What the log leads to by the plain fold."""
    return expected_state(kafka, topics, FoldRules.of(store), lambda partition: 0)


def assert_sequences(worker: Any, expected: ExpectedState) -> None:
    """Every user's sequence at the worker equals the plain fold's."""
    for _, user_id, user in expected.users():
        found = worker.get("/sequence", user_id=user_id).json()
        events = user.sequence(expected.rules)[0]
        assert found["item_ids"] == [event.row.item_id for event in events]
        assert found["ts_ms"] == [event.row.ts_ms for event in events]
        assert found["actions"] == [event.actions for event in events]
        assert found["values"] == [event.values[-1][1] if event.values else None for event in events]
        assert found["valued"] == [[place, *value] for place, event in enumerate(events) for value in event.values]
        assert found["groups"] == [event.row.position for event in events]


def read_samples(kafka: KafkaSettings, topics: TopicSettings) -> list[Sample]:
    """All samples, those that came again dropped as a learner does: by the highest id per partition."""
    samples: list[Sample] = []
    highest: dict[int, tuple[int, int, int]] = {}
    for record in read_topic(kafka, topics.samples):
        sample = decode_sample(record.value)
        assert record.partition == sample.partition
        assert record.key == sample.user_id.encode()
        sample_id = (sample.epoch, sample.trigger_offset, sample.n)
        assert dict(record.headers)["id"].decode() == (
            f"{sample.epoch}-{sample.partition}-{sample.trigger_offset}-{sample.n}"
        )
        if sample_id > highest.get(sample.partition, (-1, -1, -1)):
            highest[sample.partition] = sample_id
            samples.append(sample)
    return samples


def assert_ranges(samples: list[Sample], expected: ExpectedState) -> None:
    """Each user's samples chain from the first record to the last that is due, each record in one of them."""
    users = {user_id: user for _, user_id, user in expected.users()}
    previous: dict[str, int] = {}
    for sample in samples:
        since = previous.get(sample.user_id, -1)
        assert sample.since == since
        trigger = pack_position(sample.epoch, sample.trigger_offset)
        inside = [row.position for row in users[sample.user_id].rows if since < row.position <= trigger]
        assert sample.num_records == len(inside) == len(sample.kafka_ms)
        previous[sample.user_id] = trigger
    assert previous == {user_id: user.due_position for user_id, user in users.items() if user.due_position >= 0}


def test_the_log_becomes_sequences_samples_and_dead_letters(broker: Broker, tmp_path: Path) -> None:
    """A record is lost, applied twice or out of order, or a bad one takes its chunk along."""
    kafka, topics = fresh_topics(broker)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=3, session_gap_seconds=0)
    send_events(kafka, topics, make_events(1, 500))
    broken = send_broken(kafka, topics, 25)
    with WorkerThread(kafka, topics, store) as worker:
        wait_until("first records applied", lambda: worker.settled(525))
        send_events(kafka, topics, make_events(2, 500))
        wait_until("all records applied", lambda: worker.settled(1025))
        expected = plain_state(kafka, topics, store)
        assert_sequences(worker, expected)
        counters = worker.state()["counters"]
        metrics = worker.get("/metrics").text
        assert worker.worker is not None
        stores = worker.worker.partitions.stores.values()
        # Otherwise all samples are read, which takes ten times as long and shows nowhere else.
        assert {store._prepared.last for store in stores} == {worker.settings.sample_events}
    samples = read_samples(kafka, topics)
    assert_ranges(samples, expected)
    assert counters["headwater_records_total.applied"] == 1000
    assert counters["headwater_records_total.refused"] == 25
    assert counters["headwater_samples_total"] == len(samples)
    assert 'headwater_event_to_sequence_seconds_bucket{le="+Inf"} 1025.0' in metrics
    assert "headwater_chunk_records_sum 1025.0" in metrics
    assert 'headwater_partition_lag_records{partition="3"} 0.0' in metrics
    assert 'headwater_partition_outbox_items{partition="0"} 0.0' in metrics
    assert 'headwater_rocksdb_bytes{partition="1",property="cur-size-all-mem-tables"}' in metrics
    causes = Counter(cause for _, _, cause in broken)
    assert {cause: counters[f"headwater_dead_letters_total.{cause}"] for cause in causes} == causes
    assert {cause: counters[f"headwater_refused_total.{cause}"] for cause in causes} == causes
    letters = list_dead_letters(kafka, topics, 100)
    found = Counter((each.key, each.head, each.size, each.sha256, each.cause) for each in letters)
    assert found == Counter(
        (key, value[: 64 * 1024], len(value), hashlib.sha256(value).hexdigest(), cause) for key, value, cause in broken
    )
    assert {each.topic for each in letters} == {topics.events}
    assert len({(each.partition, each.offset) for each in letters}) == 25


def test_a_stopped_worker_goes_on_where_it_was(broker: Broker, tmp_path: Path) -> None:
    """A restart reads the log again from its beginning, or from where nothing was applied."""
    kafka, topics = fresh_topics(broker)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=2, session_gap_seconds=0)
    send_events(kafka, topics, make_events(3, 200))
    with WorkerThread(kafka, topics, store) as worker:
        wait_until("records applied", lambda: worker.settled(200))
    send_events(kafka, topics, make_events(4, 200))
    with WorkerThread(kafka, topics, store) as worker:
        wait_until("new records applied", lambda: worker.settled(400))
        assert worker.state()["counters"]["headwater_records_total.applied"] == 200
        expected = plain_state(kafka, topics, store)
        assert_sequences(worker, expected)
    assert_ranges(read_samples(kafka, topics), expected)


def test_two_workers_share_the_partitions(broker: Broker, tmp_path: Path) -> None:
    """A partition that moves loses or repeats records, or a user's owner cannot be told."""
    kafka, topics = fresh_topics(broker)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=2, session_gap_seconds=0)
    send_events(kafka, topics, make_events(5, 300))
    with WorkerThread(kafka, topics, store) as first:
        wait_until("records applied", lambda: first.settled(300))
        with WorkerThread(kafka, topics, store) as second:
            wait_until("second holds two", lambda: len(second.state().get("partitions", {})) == 2, 90)
            send_events(kafka, topics, make_events(6, 300))
            both = (first, second)
            wait_until(
                "all applied",
                lambda: sum(p["applied"] + 1 for w in both for p in w.state().get("partitions", {}).values()) == 600,
            )
            expected = plain_state(kafka, topics, store)
            user_ids = [user_id for _, user_id, _ in expected.users()]
            answers = [[worker.get("/sequence", user_id=user_id) for worker in both] for user_id in user_ids]
            assert all(left.json() == right.json() for left, right in answers)
            owners = {tuple(answer.headers.get(OWNER) for answer in pair) for pair in answers}
            assert owners == {(None, first.url), (second.url, None)}
        wait_until("first holds all again", lambda: first.settled(600), 90)
        assert_sequences(first, expected)
    assert_ranges(read_samples(kafka, topics), expected)


def test_a_worker_that_loses_all_partitions_lets_their_state_go(tansu: Broker, tmp_path: Path) -> None:
    """The new owner waits for a state folder that the former one holds for ever."""
    kafka, topics = fresh_topics(tansu, num_partitions=1)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, session_gap_seconds=0)
    send_events(kafka, topics, make_events(8, 50))
    with WorkerThread(kafka, topics, store) as first:
        wait_until("records applied", lambda: first.settled(50, 1))
        with WorkerThread(kafka, topics, store) as second:
            both = (first, second)
            wait_until("second is in the group", lambda: second.state().get("partitions") is not None, 30)
            send_events(kafka, topics, make_events(9, 50))
            wait_until("one of them applies", lambda: any(worker.settled(100, 1) for worker in both), 60)
            wait_until("the other holds none", lambda: any(worker.settled(0, 0) for worker in both), 60)


def test_a_worker_process_ends_cleanly_on_sigterm(tansu: Broker, tmp_path: Path) -> None:
    """The supervisor takes a stop for a crash."""
    kafka, topics = fresh_topics(tansu)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, session_gap_seconds=0)
    process = WorkerProcess(kafka, topics, store)
    send_events(kafka, topics, make_events(7, 50))
    wait_until("records applied", lambda: process.settled(50))
    assert process.end() == 0, process.log.read_text()


def test_a_worker_without_its_setup_says_what_is_missing(tansu: Broker, tmp_path: Path) -> None:
    """A stack trace, or a worker that waits for ever."""
    kafka, topics = fresh_topics(tansu)
    store = StoreSettings(folder=tmp_path / "state")
    with pytest.raises(SetupError, match=r"topics do not exist: nope-events, .*headwater topics create"):
        run_worker(kafka, TopicSettings(prefix="nope-"), store, WorkerSettings())
    with WorkerThread(kafka, topics, store) as running:
        wait_until("worker answers", running.state)
        with pytest.raises(SetupError, match=f"worker.web_port: port {running.settings.web_port} .*cannot be used"):
            run_worker(kafka, topics, store, running.settings)
