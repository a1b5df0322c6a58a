"""A broker that dies, a topic that is made anew, transactions that are aborted."""

import shutil
import signal
from pathlib import Path

import pytest

from streams.events import Action, encode_event
from streams.topics import admin_client, create_topics, describe_topic
from tests.brokers import Broker, wait_until
from tests.crash.cluster import NUM_PARTITIONS, Cluster
from tests.crash.load import Load, new_producer

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(600)]


def send_transaction(cluster: Cluster, name: str, *, commit: bool, count: int = 200) -> None:
    """Actions of users of that name in every partition, in one transaction."""
    producer = new_producer(cluster.kafka, **{"transactional.id": name})
    producer.init_transactions()
    producer.begin_transaction()
    for number in range(count):
        action = Action(event_id=f"{name}{number}", user_id=f"{name}{number}", item_id="i", action="like", ts_ms=number)
        producer.produce(cluster.topics.events, key=action.user_id.encode(), value=encode_event(action))
    producer.flush()
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()


def make_topic_anew(cluster: Cluster) -> None:
    """Delete the topic of events and make it again, with another id and no records."""
    before = describe_topic(cluster.kafka, cluster.topics.events)
    with admin_client(cluster.kafka) as admin:
        admin.delete_topics([cluster.topics.events])
    wait_until("it is gone", lambda: describe_topic(cluster.kafka, cluster.topics.events) is None)
    create_topics(cluster.kafka, cluster.topics)
    assert describe_topic(cluster.kafka, cluster.topics.events) != before


def epochs(cluster: Cluster) -> list[int]:
    """Log epoch of each partition that is held."""
    cluster.tend()
    return [state["epoch"] for state in cluster.partitions().values()]


def test_markers_and_aborted_records_are_no_events(kafka: Broker, tmp_path: Path) -> None:
    """Records that were never committed are learned, or the end of a log that no record ends is never reached."""
    with Cluster(kafka, tmp_path) as cluster:
        send_transaction(cluster, "aborted-first", commit=False)
        cluster.start("w1", "w2")
        with Load(cluster.kafka, cluster.topics, seed=7):
            send_transaction(cluster, "committed", commit=True)
            send_transaction(cluster, "aborted", commit=False)
            cluster.wait_applied(200)
            cluster.end("w1", 9)
            cluster.start("w1")
            cluster.wait_applied(100)
        send_transaction(cluster, "last", commit=True)
        send_transaction(cluster, "aborted-last", commit=False)
        found = cluster.assert_exact()
        assert {status for _, status in cluster.exits} == {-9}
        for name, known in (("committed7", True), ("last7", True), ("aborted7", False), ("aborted-last7", False)):
            answer = next(iter(cluster.workers.values())).get("/sequence", user_id=name).json()
            assert answer["item_ids"] == (["i"] if known else []), name
    assert found.events > 400


@pytest.mark.matrix
def test_a_log_may_end_in_markers_for_long(kafka: Broker, tmp_path: Path) -> None:
    """The watchdog takes markers for records that wait, and ends the worker over and over."""
    with Cluster(kafka, tmp_path, watchdog_seconds=2.0) as cluster:
        cluster.start("w1")
        send_transaction(cluster, "some", commit=True)
        send_transaction(cluster, "aborted", commit=False)
        cluster.assert_exact()
        with pytest.raises(AssertionError, match="w1 has ended"):
            cluster.ended("w1", 8.0)


@pytest.mark.parametrize("num_workers", [2, pytest.param(3, marks=pytest.mark.matrix)])
def test_a_broker_dies_and_comes_back(kafka: Broker, tmp_path: Path, num_workers: int) -> None:
    """Samples on their way are taken for sent, or a worker waits for ever for a broker that is back."""
    names = [f"w{number}" for number in range(1, num_workers + 1)]
    with Cluster(kafka, tmp_path) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=8):
            cluster.start(*names)
            cluster.wait_applied(200)
            kafka.stop(signal.SIGKILL)
            kafka.start()
            cluster.wait_applied(200)
        cluster.assert_exact()


@pytest.mark.matrix
def test_a_worker_and_its_broker_die_together(kafka: Broker, tmp_path: Path) -> None:
    """What the broker kept of a worker's last requests differs from what that worker knew of them."""
    with Cluster(kafka, tmp_path) as cluster:
        with Load(cluster.kafka, cluster.topics, seed=9):
            cluster.start("w1", "w2")
            for _ in range(3):
                cluster.wait_applied(200)
                cluster.end("w1", 9)
                kafka.stop(signal.SIGKILL)
                kafka.start()
                cluster.start("w1")
            cluster.wait_applied(200)
        cluster.assert_exact()


@pytest.mark.parametrize(
    ("longer", "wiped"),
    [
        pytest.param(False, False, id="shorter"),
        pytest.param(False, True, id="shorter-wiped", marks=pytest.mark.matrix),
        pytest.param(True, False, id="longer", marks=pytest.mark.matrix),
        pytest.param(True, True, id="longer-wiped", marks=pytest.mark.matrix),
    ],
)
def test_a_topic_made_anew_while_workers_are_down(kafka: Broker, tmp_path: Path, *, longer: bool, wiped: bool) -> None:
    """The stored offset is taken for one of the new topic, and all before it is lost.

    With the state gone, too, stores are in epoch 0 again: their samples are taken for those of the former log.
    """
    with Cluster(kafka, tmp_path) as cluster:
        cluster.start("w1", "w2")
        with Load(cluster.kafka, cluster.topics, seed=10):
            cluster.wait_applied(800)
        cluster.assert_exact()
        for name in ("w1", "w2"):
            cluster.end(name)
            if wiped:
                shutil.rmtree(cluster.folder(name), ignore_errors=True)
        make_topic_anew(cluster)
        with Load(cluster.kafka, cluster.topics, seed=11) as load:
            # So that the new log is longer than the stored offset, or shorter.
            wait_until("enough is sent", lambda: load.num_sent > (2_000 if longer else 100))
        cluster.start("w1", "w2")
        found = cluster.assert_exact(replayed=False)
        assert epochs(cluster) == [0 if wiped else 1] * NUM_PARTITIONS
    assert found.events > 80


@pytest.mark.matrix
@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_a_topic_made_anew_while_workers_run(kafka: Broker, tmp_path: Path, *, static: bool) -> None:
    """Consumers lose their partitions without a word, and read nothing until someone starts them again."""
    with Cluster(kafka, tmp_path, static=static, watchdog_seconds=3.0) as cluster:
        cluster.start("w1", "w2")
        with Load(cluster.kafka, cluster.topics, seed=12):
            cluster.wait_applied(800)
        make_topic_anew(cluster)
        with Load(cluster.kafka, cluster.topics, seed=13) as load:
            wait_until("enough is sent", lambda: load.num_sent > 500)
            wait_until("the new log is read", lambda: epochs(cluster) == [1] * NUM_PARTITIONS, 90)
        cluster.assert_exact(replayed=False)
