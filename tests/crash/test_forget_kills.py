"""Workers killed without warning while users ask to be forgotten."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deploy.broker import free_port
from storage.store_settings import StoreSettings
from streams.events import Event
from streams.producer import EventProducer
from tests.brokers import BROKERS, Broker, fresh_topics, wait_until
from tests.crash.test_worker_kills import _has_applied, _num_applied, _wipe_databases
from tests.streams.test_worker import ACTIONS, assert_sequences, plain_state
from tests.streams.test_worker_forget import assert_learned, forgetful_events
from tests.streams.workers import WorkerProcess

ROUNDS = 8
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("broker", [BROKERS[1]], indirect=True)
def test_kills_bring_nobody_back_and_forget_nobody_twice(broker: Broker, tmp_path: Path) -> None:
    """What is deleted and the log's offset part when a worker dies between two writes, or the word is lost or late."""
    kafka, topics = fresh_topics(broker)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=2, session_gap_seconds=0)
    events = [event for seed in range(ROUNDS) for event in forgetful_events(seed, 400)]
    settings: dict[str, Any] = {"checkpoint_seconds": 0.5, "instance_id": "w1", "web_port": free_port()}
    stop = threading.Event()
    sender = threading.Thread(target=_send_slowly, args=(kafka.bootstrap_servers, topics.events, events, stop))
    sender.start()
    try:
        num_applied = 0
        for kill in range(4):
            process = WorkerProcess(kafka, topics, store, **settings)
            wait_until("it applies", partial(_has_applied, process, num_applied + 50), 90)
            num_applied = _num_applied(process)
            process.kill()
            if kill == 2:
                _wipe_databases(store.folder)
    finally:
        stop.set()
        sender.join()
    process = WorkerProcess(kafka, topics, store, **settings)
    wait_until("all applied", lambda: process.settled(len(events)), 90)
    expected = plain_state(kafka, topics, store)
    assert_sequences(process, expected)
    assert process.end() == 0, process.log.read_text()
    assert_learned(kafka, topics, expected, 13 * ROUNDS)


def _send_slowly(servers: tuple[str, ...], topic: str, events: list[Event], stop: threading.Event) -> None:
    """Send all events, slowly until `stop` is set."""
    with EventProducer(servers, topic=topic) as producer:
        for event in events:
            producer.send(event)
            stop.wait(0.004)
    assert producer.counts.delivered == len(events)
