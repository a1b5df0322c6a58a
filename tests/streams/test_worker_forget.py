"""Users who are forgotten while a worker runs, on each broker: from the log to what a learner knows of them."""

import random
import shutil
from pathlib import Path

from storage.store_settings import StoreSettings
from streams.events import Event, Forget
from streams.expected import ExpectedState
from streams.forgotten import Forgotten, decode_due
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.marks import SampleMarks
from streams.plain_log import read_topic
from streams.topics import TopicSettings
from streams.verify import VerifyReport, compare_learned
from tests.brokers import Broker, fresh_topics, wait_until
from tests.streams.test_worker import ACTIONS, assert_sequences, make_events, plain_state, send_events
from tests.streams.workers import WorkerThread

USERS = 12


def forgetful_events(seed: int, count: int) -> list[Event]:
    """Events among which users are forgotten again and again, but for one who comes at the end."""
    rng, events = random.Random(seed), make_events(seed, count, users=USERS)
    for _ in range(USERS):
        user_id = f"user-{rng.randrange(USERS)}é"
        events.insert(rng.randrange(len(events)), Forget(user_id=user_id, ts_ms=0))
    return [*events, Forget(user_id="user-0é", ts_ms=0)]


def learned_ranges(kafka: KafkaSettings, topics: TopicSettings) -> tuple[LearnedRanges, int]:
    """What a learner notes of the topic `samples`, and how many words it took."""
    ranges, marks, words = LearnedRanges(), SampleMarks(), 0
    for record in read_topic(kafka, topics.samples):
        due = decode_due(record.value)
        assert record.key == due.user_id.encode()
        if not marks.is_new(due):
            continue
        marks.pass_over(due)
        if isinstance(due, Forgotten):
            ranges.forget(due.user_id)
            words += 1
        else:
            ranges.add(due, due.trigger_offset, due.topic_id)
    return ranges, words


def assert_learned(kafka: KafkaSettings, topics: TopicSettings, expected: ExpectedState, words: int) -> None:
    """Chains are whole, and as many words came as were asked for."""
    ranges, found = learned_ranges(kafka, topics)
    report = VerifyReport()
    compare_learned(expected, ranges, report)
    assert report.findings == dict.fromkeys(report.findings, 0)
    assert found == words


def test_forgotten_users_are_gone_from_worker_and_learner(broker: Broker, tmp_path: Path) -> None:
    """Something of a user is left, something of another goes, or `verify` finds gaps that are none."""
    kafka, topics = fresh_topics(broker)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=3, session_gap_seconds=20.0)
    send_events(kafka, topics, forgetful_events(1, 400))
    with WorkerThread(kafka, topics, store) as worker:
        wait_until("records applied", lambda: worker.settled(413))
        send_events(kafka, topics, forgetful_events(2, 400))
        wait_until("all records applied", lambda: settled(worker, 826))
        expected = plain_state(kafka, topics, store)
        assert_sequences(worker, expected)
        assert worker.get("/sequence", user_id="user-0é").json()["item_ids"] == []
        assert worker.state()["counters"]["headwater_users_forgotten_total"] == 26
    assert_learned(kafka, topics, expected, 26)
    # All is made anew from the log, and all samples come again.
    shutil.rmtree(store.folder)
    with WorkerThread(kafka, topics, store) as worker:
        wait_until("all records applied again", lambda: settled(worker, 826))
        expected = plain_state(kafka, topics, store)
        assert_sequences(worker, expected)
    assert_learned(kafka, topics, expected, 26)


def settled(worker: WorkerThread, num_records: int) -> bool:
    """As `WorkerThread.settled`, with the ticks that idle partitions get meanwhile."""
    partitions = worker.state().get("partitions", {}).values()
    return (
        len(partitions) == 4
        and sum(each["applied"] + 1 for each in partitions) >= num_records
        and all(not each["outbox"] and not each["lag"] and not each["timers"] for each in partitions)
    )
