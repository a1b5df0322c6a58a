"""Brokers for tests: the embedded Tansu, and an Apache Kafka started from `KAFKA_HOME`."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from deploy.broker import EmbeddedBroker, free_port
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings, create_topics

BROKERS = ("tansu", pytest.param("kafka", marks=pytest.mark.kafka))
"""Parameters of the fixture `broker`."""
START_SECONDS = 60.0


class Broker(Protocol):
    """A broker that runs."""

    @property
    def address(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class ApacheKafka:
    """One combined controller and broker on loopback; its records are in `folder` and outlive it."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.port = free_port()
        self._controller_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it serves; fails the test where it does not."""
        properties = self.folder / "server.properties"
        if not properties.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            properties.write_text(self._properties())
            options = ["format", "--standalone", "--ignore-formatted", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA"]
            command = [*self._java(), "kafka.tools.StorageTool", *options, "--config", str(properties)]
            subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=START_SECONDS)
        log = self.folder / "server.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*self._java(), "kafka.Kafka", str(properties)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        settings = KafkaSettings(bootstrap_servers=(self.address,), connect_seconds=START_SECONDS)
        create_topics(settings, TopicSettings(prefix="ready-", num_partitions=1))

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Stop it; its data stays."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def _java(self) -> list[str]:
        return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", f"{self.home}/libs/*"]

    def _properties(self) -> str:
        listeners = f"PLAINTEXT://127.0.0.1:{self.port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": listeners,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self._controller_port}",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())


def new_broker(name: str, folder: Path) -> Broker:
    """A broker that is not started; skips the test (fails in CI) where Apache Kafka or Java is missing."""
    if name == "tansu":
        return EmbeddedBroker(free_port(), folder / "tansu.log")
    home = os.environ.get("KAFKA_HOME")
    if home and shutil.which("java"):
        return ApacheKafka(Path(home), folder)
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
