"""Brokers for tests: the embedded Tansu, and an Apache Kafka started from `KAFKA_HOME`."""

import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.broker import ApacheKafka, EmbeddedBroker, free_port
from deploy.broker import LocalBroker as Broker
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings, create_topics

__all__ = ["BROKERS", "ApacheKafka", "Broker", "fresh_topics", "new_broker", "wait_until"]

BROKERS = ("tansu", pytest.param("kafka", marks=pytest.mark.kafka))
"""Parameters of the fixture `broker`."""
JAVA_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m")
"""Starts sooner, and leaves the second core to the test."""


def new_broker(name: str, folder: Path, **options: Any) -> Broker:
    """A broker that is not started; skips the test (fails in CI) where Apache Kafka or Java is missing.

    `options` are those of `ApacheKafka`.
    """
    if name == "tansu":
        return EmbeddedBroker(free_port(), folder / "tansu.log")
    home = os.environ.get("KAFKA_HOME")
    if home and shutil.which("java"):
        return ApacheKafka(Path(home), folder, free_port(), **{"java_options": JAVA_OPTIONS, **options})
    reason = "needs KAFKA_HOME, an unpacked Apache Kafka 4, and java on the path"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def fresh_topics(broker: Broker, *, num_partitions: int = 4) -> tuple[KafkaSettings, TopicSettings]:
    """Settings of a group and topics that no other test uses; the topics are made."""
    name = uuid.uuid4().hex[:8]
    kafka = KafkaSettings(bootstrap_servers=(broker.address,), group=f"{name}-group")
    topics = TopicSettings(prefix=f"{name}-", num_partitions=num_partitions)
    create_topics(kafka, topics)
    return kafka, topics


def wait_until(what: str, done: Callable[[], object], seconds: float = 60.0) -> None:
    """Call `done` until it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.05)
