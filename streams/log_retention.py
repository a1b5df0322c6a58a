"""How long a topic keeps its records, held against how old the checkpoints are that it has to reach back to."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from kafka.admin import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]  # kafka-python has no types
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # as above

from storage.errors import SetupError
from streams.kafka_settings import KafkaSettings
from streams.topics import admin_client

CONFIG = "retention.ms"
LOOK_SECONDS = 60.0
"""Pause between two looks at a topic's retention, which may be changed while workers run."""

logger = logging.getLogger(__name__)


def retention_seconds(kafka: KafkaSettings, topic: str) -> float | None:
    """How long the broker keeps a topic's records; None for ever, or where the broker does not say.

    Raises `SetupError` where no broker answers.
    """
    with admin_client(kafka) as admin:
        try:
            asked = ConfigResource(ConfigResourceType.TOPIC, topic, [CONFIG])
            found = admin.describe_configs([asked], config_filter="all")
        except KafkaError:
            return None  # not allowed to ask, or a broker that cannot be asked
    value = found.get("topic", {}).get(topic, {}).get(CONFIG, {}).get("value")
    return None if value is None or int(value) < 0 else int(value) / 1000


def check_retention(retention: float | None, *, topic: str, checkpoint_seconds: float) -> None:
    """Raise `SetupError` where records expire before a checkpoint holds what they did."""
    if retention is not None and retention <= checkpoint_seconds:
        raise SetupError(
            f"{topic} keeps records for {retention:g} s (retention.ms) and worker.checkpoint_seconds is "
            f"{checkpoint_seconds:g}: state that is lost could not be made again; lengthen the topic's retention.ms "
            "to several times that, or set a shorter worker.checkpoint_seconds"
        )


class RetentionWatch:
    """Warns while a topic forgets faster than checkpoints are made."""

    def __init__(self, kafka: KafkaSettings, topic: str, checkpoint_seconds: float) -> None:
        self._kafka = kafka
        self._topic = topic
        self._checkpoint_seconds = checkpoint_seconds
        self._looked = time.monotonic()

    async def look(self, ages: Callable[[], Iterable[float]]) -> None:
        """Look, at most once in `LOOK_SECONDS`, given how to learn the ages of the partitions' newest checkpoints."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            retention = await asyncio.to_thread(retention_seconds, self._kafka, self._topic)
            check_retention(retention, topic=self._topic, checkpoint_seconds=self._checkpoint_seconds)
        except SetupError as error:
            logger.warning("%s", error)
            return
        oldest = max(ages(), default=0.0)
        if retention is not None and oldest > retention / 2:
            logger.warning(
                "the oldest newest checkpoint of %s is %.0f s old and the topic keeps records for %.0f s: should this "
                "disk be lost after that, so is state; see why checkpoints fail, or lengthen retention.ms",
                self._topic,
                oldest,
                retention,
            )
