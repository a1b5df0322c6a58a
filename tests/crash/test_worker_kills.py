"""Workers killed without warning while events come in."""

import shutil
import threading
from pathlib import Path

import pytest

from storage.store_settings import StoreSettings
from tests.brokers import BROKERS, ApacheKafka, Broker, fresh_topics, wait_until
from tests.crash.killed_worker import send_slowly, settled_after_kills
from tests.streams.test_worker import (
    ACTIONS,
    assert_ranges,
    assert_sequences,
    make_events,
    plain_state,
    read_samples,
)
from tests.streams.workers import WorkerProcess

NUM_EVENTS = 6_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("broker", [pytest.param("tansu", marks=pytest.mark.matrix), BROKERS[1]], indirect=True)
def test_kills_lose_and_repeat_nothing(broker: Broker, tmp_path: Path) -> None:
    """State and log offset part when a worker dies between two writes, or samples are formed otherwise after it."""
    kafka, topics = fresh_topics(broker)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=2, session_gap_seconds=0)
    # The name that stays over restarts spares the wait for the dead member; the embedded broker does without.
    name = "w1" if isinstance(broker, ApacheKafka) else ""
    events = make_events(11, NUM_EVENTS)
    process = settled_after_kills(kafka, topics, store, events, instance_id=name, num_kills=3)
    expected = plain_state(kafka, topics, store)
    assert_sequences(process, expected)
    assert process.end() == 0, process.log.read_text()
    assert_ranges(read_samples(kafka, topics), expected)


def test_a_wiped_folder_is_rebuilt_from_the_log(tansu: Broker, tmp_path: Path) -> None:
    """With neither state nor checkpoint, the group's commit hides the records before it."""
    kafka, topics = fresh_topics(tansu)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=2, session_gap_seconds=0)
    stop = threading.Event()
    stop.set()
    send_slowly(kafka.bootstrap_servers, topics.events, make_events(11, NUM_EVENTS), stop)
    process = WorkerProcess(kafka, topics, store)
    wait_until("all applied", lambda: process.settled(NUM_EVENTS))
    assert process.end() == 0
    shutil.rmtree(store.folder)
    process = WorkerProcess(kafka, topics, store)
    wait_until("all applied again", lambda: process.settled(NUM_EVENTS))
    expected = plain_state(kafka, topics, store)
    assert_sequences(process, expected)
    process.kill()
    assert_ranges(read_samples(kafka, topics), expected)
