"""The topics that Headwater uses: what they are called, how they are kept, and their creation."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import KafkaError, TopicAlreadyExistsError  # type: ignore[import-untyped]  # as above

from storage.errors import SetupError
from streams.events import Kind
from streams.kafka_clients import client_options
from streams.kafka_settings import KafkaSettings
from streams.reachability import await_broker, no_answer

NUM_CATALOGUE_PARTITIONS = 1
"""Partitions of `items` and of `snapshots`: every reader tails them whole."""
MAX_SAMPLE_BYTES = 8 * 1024 * 1024
"""Largest record of the topic `samples`."""

_NAME = re.compile(r"^[a-zA-Z0-9._-]{1,240}$")


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicSettings:
    """Names and keeping of the topics; `events`, `samples` and `events.dlq` have equally many partitions."""

    prefix: str = ""
    """Put before every topic's name, so that several installations can share a cluster."""
    num_partitions: int = 4
    """Partitions of `events`; cannot be changed later without rebuilding the state."""
    num_replicas: int = 1
    """Copies of each partition that the cluster keeps."""
    events_retention_days: float = 30.0
    """How long `events` are kept: the state can be rebuilt from these."""
    samples_retention_days: float = 7.0
    """How long `samples` and dead letters are kept."""
    impressions: str = ""
    """Topic of others, its whole name, whose impressions `headwater ingress` forwards into `events`; empty: none."""
    actions: str = ""
    """Topic of others, its whole name, whose actions `headwater ingress` forwards into `events`; empty: none."""

    def __post_init__(self) -> None:
        for name in self.names:
            if not _NAME.match(name):
                raise ValueError(f"prefix must be letters, digits, '.', '_' or '-', got {self.prefix!r}")
        for field, low, high in (("num_partitions", 1, 10_000), ("num_replicas", 1, 100)):
            value = getattr(self, field)
            if not low <= value <= high:
                raise ValueError(f"{field} must be {low} to {high}, got {value}")
        for field in ("events_retention_days", "samples_retention_days"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} must be > 0, got {getattr(self, field)}")
        self._check_sources()

    @property
    def events(self) -> str:
        """Topic of impressions, actions and user updates, keyed by user."""
        return f"{self.prefix}events"

    @property
    def items(self) -> str:
        """Compacted topic of the catalogue, keyed by item."""
        return f"{self.prefix}items"

    @property
    def samples(self) -> str:
        """Topic of training samples; a sample travels in its source partition's number."""
        return f"{self.prefix}samples"

    @property
    def dead_letters(self) -> str:
        """Topic of the records that were no valid events."""
        return f"{self.prefix}events.dlq"

    @property
    def snapshots(self) -> str:
        """Compacted topic of the newest versions, keyed by model."""
        return f"{self.prefix}snapshots"

    @property
    def names(self) -> tuple[str, ...]:
        """All topics."""
        return (self.events, self.items, self.samples, self.dead_letters, self.snapshots)

    @property
    def sources(self) -> dict[str, Kind]:
        """Topics that `headwater ingress` reads, and what is in each: `impression` or `action`."""
        named: dict[str, Kind] = {self.impressions: "impression", self.actions: "action"}
        return {topic: kind for topic, kind in named.items() if topic}

    def _check_sources(self) -> None:
        for field in ("impressions", "actions"):
            topic = getattr(self, field)
            if topic and not _NAME.match(topic):
                raise ValueError(f"{field} must be letters, digits, '.', '_' or '-', got {topic!r}")
            if topic in self.names:
                raise ValueError(f"{field} must be a topic of others, got {topic!r}, which is one of ours")
        if self.impressions and self.impressions == self.actions:
            raise ValueError(f"impressions and actions must be two topics, got {self.actions!r} for both")


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicDescription:
    """What a broker says of a topic."""

    topic_id: str
    """Changes when a topic is deleted and made again."""
    num_partitions: int


def create_topics(kafka: KafkaSettings, topics: TopicSettings) -> list[str]:
    """Create the topics that do not exist yet and return their names.

    Raises `SetupError` where a broker cannot be reached, refuses, or has one of them with other partitions.
    """
    created = []
    with admin_client(kafka) as admin:
        existing = _describe(admin, topics.names)
        for name, options in _declarations(topics).items():
            if name in existing:
                _check_partitions(name, existing[name], int(options["num_partitions"]))
            elif _create(admin, name, options):
                created.append(name)
        if created:
            admin.wait_for_topics(created)
    return created


def describe_topic(kafka: KafkaSettings, topic: str) -> TopicDescription | None:
    """What the broker says of a topic, or None where it does not exist; raises `SetupError`."""
    with admin_client(kafka) as admin:
        return _describe(admin, (topic,)).get(topic)


def existing_topic(kafka: KafkaSettings, topic: str) -> TopicDescription:
    """What the broker says of a topic; raises `SetupError` where it does not exist, too."""
    description = describe_topic(kafka, topic)
    if description is None:
        raise SetupError(f"topic {topic} does not exist; create it with: headwater topics create")
    return description


@contextmanager
def admin_client(kafka: KafkaSettings) -> Iterator[Any]:
    """A kafka-python admin client; every `KafkaError` becomes a `SetupError` of one line."""
    await_broker(kafka)
    milliseconds = int(kafka.connect_seconds * 1000)
    admin = None
    try:
        admin = KafkaAdminClient(
            **client_options(kafka), bootstrap_timeout_ms=milliseconds, request_timeout_ms=milliseconds
        )
        yield admin
    except (KafkaError, OSError) as error:
        raise no_answer(kafka, error) from error
    finally:
        if admin is not None:
            admin.close()


def _declarations(topics: TopicSettings) -> dict[str, dict[str, Any]]:
    day_ms = 24 * 3600 * 1000
    kept = {"cleanup.policy": "delete", "retention.ms": str(int(topics.samples_retention_days * day_ms))}
    events = {
        "cleanup.policy": "delete",
        "retention.ms": str(int(topics.events_retention_days * day_ms)),
        "message.timestamp.type": "LogAppendTime",
    }
    items = {
        "cleanup.policy": "compact",
        # What was replaced is there for a day, so that a learner that is restarted reads what it had read.
        "min.compaction.lag.ms": str(day_ms),
        "message.timestamp.type": "LogAppendTime",
    }
    # A closed segment is what can be compacted: who begins to listen reads an hour's announcements at most.
    snapshots = {"cleanup.policy": "compact", "segment.ms": str(3600 * 1000)}
    samples = {**kept, "max.message.bytes": str(MAX_SAMPLE_BYTES)}
    declared = {
        topics.events: (topics.num_partitions, events),
        topics.items: (NUM_CATALOGUE_PARTITIONS, items),
        topics.samples: (topics.num_partitions, samples),
        topics.dead_letters: (topics.num_partitions, kept),
        topics.snapshots: (NUM_CATALOGUE_PARTITIONS, snapshots),
    }
    return {
        name: {"num_partitions": count, "replication_factor": topics.num_replicas, "configs": configs}
        for name, (count, configs) in declared.items()
    }


def _describe(admin: Any, names: tuple[str, ...]) -> dict[str, TopicDescription]:
    return {
        topic["name"]: TopicDescription(topic_id=str(topic["topic_id"]), num_partitions=len(topic["partitions"]))
        for topic in admin.describe_topics(list(names))
        if topic["error_code"] == 0
    }


def _create(admin: Any, name: str, options: dict[str, Any]) -> bool:
    try:
        admin.create_topics({name: options})
    except TopicAlreadyExistsError:
        return False
    return True


def _check_partitions(name: str, found: TopicDescription, declared: int) -> None:
    if found.num_partitions != declared:
        raise SetupError(
            f"topic {name} has {found.num_partitions} partitions, the settings say {declared}: "
            f"set topics.num_partitions to {found.num_partitions}, or choose another topics.prefix"
        )
