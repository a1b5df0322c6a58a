"""Workers killed without warning while events come in."""

import shutil
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deploy.broker import free_port
from storage.store_settings import StoreSettings
from streams.producer import EventProducer
from tests.brokers import BROKERS, ApacheKafka, Broker, fresh_topics, wait_until
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
    settings: dict[str, Any] = {"checkpoint_seconds": 0.5, "instance_id": name, "web_port": free_port()}
    stop = threading.Event()
    sender = threading.Thread(target=_send_slowly, args=(kafka.bootstrap_servers, topics.events, stop))
    sender.start()
    try:
        num_applied = 0
        for kill in range(3):
            process = WorkerProcess(kafka, topics, store, **settings)
            wait_until("it applies", partial(_has_applied, process, num_applied + 50), 90)
            num_applied = _num_applied(process)
            process.kill()
            if kill == 1:
                _wipe_databases(store.folder)
    finally:
        stop.set()
        sender.join()
    process = WorkerProcess(kafka, topics, store, **settings)
    wait_until("all applied", lambda: process.settled(NUM_EVENTS), 90)
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
    _send_slowly(kafka.bootstrap_servers, topics.events, stop)
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


def _has_applied(process: WorkerProcess, num_records: int) -> bool:
    return _num_applied(process) > num_records


def _num_applied(process: WorkerProcess) -> int:
    partitions = process.state().get("partitions", {})
    return sum(each["applied"] + 1 for each in partitions.values())


def _wipe_databases(folder: Path) -> None:
    for database in folder.glob("p[0-9]*"):
        shutil.rmtree(database)


def _send_slowly(servers: tuple[str, ...], topic: str, stop: threading.Event) -> None:
    """Send all events, slowly until `stop` is set."""
    with EventProducer(servers, topic=topic) as producer:
        for event in make_events(11, NUM_EVENTS):
            producer.send(event)
            stop.wait(0.004)
    assert producer.counts.delivered == NUM_EVENTS
