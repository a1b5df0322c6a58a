"""A worker that is killed again and again while events come in, and one that goes on where the last one died."""

import shutil
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from deploy.broker import free_port
from storage.store_settings import StoreSettings
from streams.events import Event
from streams.kafka_settings import KafkaSettings
from streams.producer import EventProducer
from streams.topics import TopicSettings
from tests.brokers import wait_until
from tests.streams.workers import WorkerProcess

MORE_RECORDS = 50
"""How many records a worker applies at least beyond where the last one was seen, before it is killed."""


def settled_after_kills(
    kafka: KafkaSettings,
    topics: TopicSettings,
    store: StoreSettings,
    events: Sequence[Event],
    *,
    instance_id: str,
    num_kills: int,
) -> WorkerProcess:
    """A worker that has applied all events, after so many that were killed; the last death but one took the disk."""
    stop = threading.Event()
    sender = threading.Thread(target=send_slowly, args=(kafka.bootstrap_servers, topics.events, events, stop))
    port = free_port()

    def started() -> WorkerProcess:
        return WorkerProcess(kafka, topics, store, checkpoint_seconds=0.5, instance_id=instance_id, web_port=port)

    sender.start()
    try:
        least = MORE_RECORDS
        for kill in range(num_kills):
            process = started()
            wait_until("it applies", partial(has_applied, process, least), 90)
            least = _num_applied(process) + MORE_RECORDS
            process.kill()
            if kill == num_kills - 2:
                _wipe_databases(store.folder)
    finally:
        stop.set()
        sender.join()
    process = started()
    wait_until("all applied", lambda: process.settled(len(events)), 90)
    return process


def send_slowly(servers: tuple[str, ...], topic: str, events: Sequence[Event], stop: threading.Event) -> None:
    """Send all events, slowly until `stop` is set."""
    with EventProducer(servers, topic=topic) as producer:
        for event in events:
            producer.send(event)
            stop.wait(0.004)
    assert producer.counts.delivered == len(events)


def has_applied(process: WorkerProcess, num_records: int) -> bool:
    """Whether a worker has applied more than so many records."""
    return _num_applied(process) > num_records


def _num_applied(process: WorkerProcess) -> int:
    partitions = process.state().get("partitions", {})
    return sum(each["applied"] + 1 for each in partitions.values())


def _wipe_databases(folder: Path) -> None:
    for database in folder.glob("p[0-9]*"):
        shutil.rmtree(database)
