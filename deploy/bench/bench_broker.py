"""An Apache Kafka of its own for a measurement, what is asked of it, and the folder that both need."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types

from deploy.bench.processes import cpu_seconds, interrupted_by_signals
from deploy.broker import ApacheKafka, free_port
from streams.kafka_settings import KafkaSettings
from streams.topics import admin_client

JOIN_MS = 3_000
"""Members that start within it come into one group without a second rebalance, as by Kafka's default."""


class BenchBroker:
    """A broker on this machine."""

    def __init__(self, broker: ApacheKafka, folder: Path) -> None:
        self.folder = folder
        """For whatever the measurement makes; it goes when the broker goes."""
        self.kafka = KafkaSettings(bootstrap_servers=(broker.address,))
        self._broker = broker

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        assert self._broker.pid is not None
        return cpu_seconds(self._broker.pid)

    def ends(self, topic: str, num_partitions: int) -> dict[int, int]:
        """One past the newest offset of each partition."""
        consumer = KafkaConsumer(bootstrap_servers=list(self.kafka.bootstrap_servers))
        try:
            ends = consumer.end_offsets([TopicPartition(topic, number) for number in range(num_partitions)])
        finally:
            consumer.close()
        return {partition.partition: offset for partition, offset in ends.items()}

    def delete(self, topics: tuple[str, ...]) -> None:
        """Delete topics."""
        with admin_client(self.kafka) as admin:
            admin.delete_topics(list(topics))


@contextmanager
def bench_broker(home: Path, folder: Path, *, join_ms: int = JOIN_MS) -> Iterator[BenchBroker]:
    """An Apache Kafka with its records in a folder under `folder`, which is removed unless an error is raised."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="run-", dir=folder)).absolute()
    broker = ApacheKafka(
        home,
        place / "kafka",
        free_port(),
        properties={"group.initial.rebalance.delay.ms": str(join_ms)},
        java_options=("-Xms1g", "-Xmx1g", "-XX:+UseG1GC"),
    )
    try:
        with interrupted_by_signals(), broker:
            yield BenchBroker(broker, place)
    except KeyboardInterrupt:
        shutil.rmtree(place)
        raise
    shutil.rmtree(place)


def bare_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without Headwater's settings: what is measured takes them from its own file."""
    return {name: value for name, value in environ.items() if not name.startswith("HEADWATER_")}
