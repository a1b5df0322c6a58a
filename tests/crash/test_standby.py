"""A standby in a killed worker's place."""

import re
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.store_settings import StoreSettings
from streams.kafka_settings import KafkaSettings
from streams.plain_log import read_topic
from streams.producer import EventProducer
from streams.topics import TopicSettings
from tests.brokers import ApacheKafka, Broker, fresh_topics, wait_until
from tests.crash.killed_worker import has_applied
from tests.streams.test_worker import (
    ACTIONS,
    assert_ranges,
    assert_sequences,
    make_events,
    plain_state,
    read_samples,
    send_events,
)
from tests.streams.workers import WorkerProcess

NUM_EVENTS = 2_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def _told(standby: WorkerProcess) -> tuple[int, int] | None:
    """How many records it said last that it is behind, and how many samples it would send."""
    told = re.findall(r"standby of 4 partitions is (\d+) records behind; has (\d+) to send", standby.log.read_text())
    return (int(told[-1][0]), int(told[-1][1])) if told else None


def _send_slowly(kafka: KafkaSettings, topics: TopicSettings, go_on: threading.Event) -> None:
    """Send half of the events, and the others, at their pace, once there is a standby."""
    with EventProducer(kafka.bootstrap_servers, topic=topics.events) as producer:
        for number, event in enumerate(make_events(11, NUM_EVENTS)):
            if number == NUM_EVENTS // 2:
                producer.flush()
                go_on.wait(180)
            producer.send(event)
            if number > NUM_EVENTS // 2:
                time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_standby_takes_over_and_nothing_is_lost_or_repeated(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """What the owner had applied and not sent must come from the standby, and nothing that it had sent need.

    One that was only frozen must not take its place back, nor go on beside the standby.
    """
    if not isinstance(broker, ApacheKafka):
        pytest.skip("the embedded broker knows no static members, and misses a dead one late")
    kafka, topics = fresh_topics(broker)
    name: dict[str, Any] = {"instance_id": "w1"}
    settings: dict[str, Any] = {"actions": ACTIONS, "sample_every": 2, "session_gap_seconds": 0}
    go_on = threading.Event()
    sender = threading.Thread(target=_send_slowly, args=(kafka, topics, go_on))
    sender.start()
    try:
        owner = WorkerProcess(kafka, topics, StoreSettings(folder=tmp_path / "a" / "state", **settings), **name)
        wait_until("it applies", partial(has_applied, owner, 50), 90)
        folder = tmp_path / "b" / "state"
        standby = WorkerProcess(kafka, topics, StoreSettings(folder=folder, **settings), standby=True, **name)
        wait_until("half is applied", partial(has_applied, owner, NUM_EVENTS // 2 - 1), 90)
        wait_until("the standby has seen what arrived of it", lambda: _told(standby) == (0, 0), 60)
        go_on.set()
        wait_until("more is applied", partial(has_applied, owner, NUM_EVENTS // 2 + 50), 60)
        sent = len(list(read_topic(kafka, topics.samples)))
        owner.process.send_signal(number)
        killed = time.monotonic()
        standby.process.send_signal(signal.SIGUSR1)
        wait_until("the standby holds all", lambda: len(standby.state().get("partitions", {})) == 4, 90)
        with capsys.disabled():
            print(f"\n  standby held all partitions {time.monotonic() - killed:.2f} s after {number.name} ", end="")
        owner.process.send_signal(signal.SIGCONT)
        status = {signal.SIGKILL: -signal.SIGKILL, signal.SIGSTOP: 2}[number]
        assert owner.process.wait(30) == status
        assert number == signal.SIGKILL or "worker.instance_id 'w1' is another worker's" in owner.log.read_text()
    finally:
        go_on.set()
        sender.join()
    wait_until("all applied", lambda: standby.settled(NUM_EVENTS), 90)
    expected = plain_state(kafka, topics, StoreSettings(folder=folder, **settings))
    assert_sequences(standby, expected)
    assert standby.end() == 0, standby.log.read_text()
    samples = read_samples(kafka, topics)
    assert_ranges(samples, expected)
    repeated = len(list(read_topic(kafka, topics.samples))) - len(samples)
    assert repeated < sent / 2, "its outbox is pruned by what has arrived"


def test_a_standby_that_is_not_needed_ends_and_leaves_no_trace(tansu: Broker, tmp_path: Path) -> None:
    """It is no member of the group: neither its coming nor its going is a rebalance, and it sends nothing."""
    kafka, topics = fresh_topics(tansu)
    send_events(kafka, topics, make_events(12, NUM_EVENTS))
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, session_gap_seconds=0.0)
    standby = WorkerProcess(kafka, topics, store, standby=True)
    wait_until("it follows", lambda: (_told(standby) or (1, 0))[0] == 0)
    assert standby.end() == 0, standby.log.read_text()
    assert list(read_topic(kafka, topics.samples)) == []
    assert sorted(path.name for path in store.folder.iterdir()) == ["p0", "p1", "p2", "p3"]
