"""New versions, told in the compacted topic `snapshots`: a hint that has servers look at the store at once.

A record's key is the model's name, its value the pointer as the store has it. The store stays the truth: nobody loads
what a record says. So one that is lost, late, doubled or forged costs a look, or the time to the next one.
"""

import logging
from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # the same

from storage.manifest import Pointer, encode_pointer
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.tailing import POLL_MS, TailingThread
from streams.topics import describe_topic

RETRY_SECONDS = 5.0
"""Pause before the broker, or a topic that is not there, is tried again."""
SEND_MS = 2_000
"""How long a publish waits at most for room to announce its version."""

logger = logging.getLogger(__name__)


class Announcer:
    """Tells of the versions of one model; what cannot be told is logged, and costs servers a moment."""

    def __init__(self, producer: Any, topic: str, model: str) -> None:
        self.topic = topic
        self.model = model
        self._producer = producer

    def announce(self, pointer: Pointer) -> None:
        """Send what `latest` says now; it is not waited for."""
        try:
            sent = self._producer.send(self.topic, key=self.model.encode(), value=encode_pointer(pointer))
            sent.add_errback(self._note)
        except KafkaError as error:
            self._note(error)

    def close(self) -> None:
        """Wait a moment for what is on its way, and disconnect."""
        self._producer.close(timeout=SEND_MS / 1000)

    def _note(self, error: Exception) -> None:
        logger.warning("a version was not announced in %s, servers find it by themselves: %s", self.topic, error)


def connect_announcer(kafka: KafkaSettings, topic: str, model: str) -> Announcer | None:
    """An announcer; None where the topic does not exist. Raises `SetupError`."""
    if describe_topic(kafka, topic) is None:
        logger.info("topic %s does not exist: servers find versions by looking", topic)
        return None
    return Announcer(
        KafkaProducer(**client_options(kafka), acks=1, enable_idempotence=False, max_block_ms=SEND_MS), topic, model
    )


class Announcements(TailingThread):
    """Calls `heard` where a version of a model is announced, from a thread, until it is stopped.

    It begins with what the topic still holds, and says nothing of what a record contains. Where broker or topic are not
    there it tries again.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, model: str, heard: Callable[[], None]) -> None:
        super().__init__(kafka, topic, name="announcements", retry_seconds=RETRY_SECONDS)
        self.model = model
        self.heard = heard

    def _note(self, error: Exception) -> None:
        logger.warning("announcements in %s cannot be read: %s; trying again", self.topic, error)

    def _follow(self, consumer: Any) -> None:
        partitions = self._partitions(consumer)
        if not partitions:
            self._stop.wait(self._retry_seconds)
            return
        consumer.assign(sorted(partitions))
        while not self._stop.is_set():
            batches = consumer.poll(timeout_ms=POLL_MS)
            if any(record.key == self.model.encode() for records in batches.values() for record in records):
                self.heard()
