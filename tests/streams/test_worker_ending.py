"""How a worker ends, or does not start."""

import threading
from pathlib import Path

import pytest

from deploy.broker import free_port
from storage.errors import SetupError
from storage.store_settings import StoreSettings
from streams.kafka_settings import KafkaSettings
from streams.producer import EventProducer
from streams.topics import TopicSettings
from streams.worker import WorkerSettings, run_worker
from tests.brokers import Broker, fresh_topics, wait_until
from tests.streams.test_worker import ACTIONS, make_events
from tests.streams.workers import WorkerProcess


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_a_worker_stops_in_order_under_load(broker: Broker, tmp_path: Path) -> None:
    """Every deployment kills its workers after the grace time, and the next ones read minutes of the log again."""
    kafka, topics = fresh_topics(broker)
    store = StoreSettings(folder=tmp_path / "state", actions=ACTIONS, sample_every=4)
    process = WorkerProcess(kafka, topics, store)
    done = threading.Event()
    sender = threading.Thread(target=_send, args=(kafka, topics, done))
    sender.start()
    try:
        wait_until("records are applied", lambda: _applied(process) > 2_000 and _num_begun(process) == 4, 90)
        status = process.end()
    finally:
        done.set()
        sender.join()
        process.process.kill()
        process.process.wait()
    assert status == 0, process.log.read_text()
    assert len(list((store.folder / "checkpoints").glob("p*@*"))) >= 4


def test_a_worker_without_a_broker_says_so_in_one_line(tmp_path: Path) -> None:
    kafka = KafkaSettings(bootstrap_servers=(f"127.0.0.1:{free_port()}",), connect_seconds=0.3)
    with pytest.raises(SetupError, match=rf"no answer from Kafka at {kafka.bootstrap_servers[0]} ") as caught:
        run_worker(kafka, TopicSettings(), StoreSettings(folder=tmp_path), WorkerSettings(web_port=free_port()))
    assert "\n" not in str(caught.value)


def test_topics_of_unequal_partitions_are_refused(tansu: Broker, tmp_path: Path) -> None:
    """A sample would go to a partition that there is not."""
    kafka, topics = fresh_topics(tansu, num_partitions=2)
    _, others = fresh_topics(tansu, num_partitions=3)
    mixed = _Mixed(prefix=topics.prefix, num_partitions=2)
    object.__setattr__(mixed, "other", others.samples)
    with pytest.raises(SetupError, match=r"equally many partitions, got .*-events 2, .*-samples 3, .* anew"):
        run_worker(kafka, mixed, StoreSettings(folder=tmp_path), WorkerSettings(web_port=free_port()))


class _Mixed(TopicSettings):
    """Topics of which one is another installation's."""

    @property
    def samples(self) -> str:
        return str(getattr(self, "other", super().samples))


def _send(kafka: KafkaSettings, topics: TopicSettings, done: threading.Event) -> None:
    with EventProducer(kafka.bootstrap_servers, topic=topics.events) as producer:
        for event in make_events(41, 200_000):
            if done.is_set():
                return
            producer.send(event)


def _num_begun(process: WorkerProcess) -> int:
    """Partitions of which records are applied: each of them leaves a checkpoint."""
    return sum(each["applied"] >= 0 for each in process.state().get("partitions", {}).values())


def _applied(process: WorkerProcess) -> int:
    return sum(int(each["applied"]) + 1 for each in process.state().get("partitions", {}).values())
