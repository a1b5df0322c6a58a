"""Following a compacted topic in a thread, over a consumer that is made anew wherever it fails."""

import threading
from abc import ABC, abstractmethod
from typing import Any

from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # the same

from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings

POLL_MS = 200
"""How long one poll waits for records."""


class TailingThread(ABC):
    """Has `_follow` read a topic until it is stopped; tries again after `retry_seconds` where the broker is away."""

    def __init__(self, kafka: KafkaSettings, topic: str, *, name: str, retry_seconds: float) -> None:
        self.kafka = kafka
        self.topic = topic
        self._retry_seconds = retry_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading and wait for the thread; what was read stays readable."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    @abstractmethod
    def _follow(self, consumer: Any) -> None:
        """Read until stopped; may return where there is nothing to read, and is called again."""

    @abstractmethod
    def _note(self, error: Exception) -> None:
        """Say that the topic cannot be read now."""

    def _partitions(self, consumer: Any) -> set[TopicPartition]:
        return {TopicPartition(self.topic, number) for number in consumer.partitions_for_topic(self.topic)}

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with _tailing_consumer(self.kafka) as consumer:
                    while not self._stop.is_set():
                        self._follow(consumer)
            except (KafkaError, OSError) as error:
                self._note(error)
                self._stop.wait(self._retry_seconds)


def _tailing_consumer(kafka: KafkaSettings) -> Any:
    """A consumer without a group, which reads from the beginning what is committed; raises `KafkaError`."""
    return KafkaConsumer(
        **client_options(kafka),
        bootstrap_timeout_ms=int(kafka.connect_seconds * 1000),
        group_id=None,
        enable_auto_commit=False,
        allow_auto_create_topics=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=POLL_MS // 2,
    )
