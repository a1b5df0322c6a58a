"""The events of a benchmark: a seeded stream of actions, users and items by Zipf's law, put into a topic."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.errors import SetupError
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings, create_topics

ACTIONS = ("click", "like", "share", "buy", "view")
"""Names of the actions."""
FIRST_MS = 1_700_000_000_000
"""Time of the first event."""
STEP_MS = 37
"""Time between two events."""
BLOCK = 65_536
"""Events drawn at once."""

_DRAWN = np.array([0, 0, 0, 1, 2, 3, 4, 4])


@dataclass(frozen=True, kw_only=True, slots=True)
class EventLog:
    """A stream of actions, a function of these fields alone."""

    name: str
    """Begin of its topics' names."""
    events: int
    users: int
    event_ids: bool
    """Whether each event has an id of its own."""
    partitions: int = 8
    items: int = 20_000
    seed: int = 1
    first: int = 0
    """Number of the first event; those before it are in the topic already."""

    @property
    def topics(self) -> TopicSettings:
        """The topics that hold it and what is made of it."""
        return TopicSettings(prefix=f"{self.name}-", num_partitions=self.partitions)

    @staticmethod
    def ms(number: int) -> int:
        """Event time of an event."""
        return FIRST_MS + number * STEP_MS

    def num_samples(self, every: int) -> int:
        """How many samples are due where each `every`th event of a user makes one."""
        counts = np.zeros(self.users, dtype=np.int64)
        for users, _, _ in self.draws():
            counts += np.bincount(users, minlength=self.users)
        return int((counts // every).sum())

    def draws(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Numbers of users, items and actions, in blocks."""
        drawn = np.random.default_rng(self.seed)
        user_shares, item_shares = _zipf(self.users), _zipf(self.items)
        for start in range(0, self.events, BLOCK):
            size = min(BLOCK, self.events - start)
            users = np.searchsorted(user_shares, drawn.random(size))
            items = np.searchsorted(item_shares, drawn.random(size))
            yield users, items, _DRAWN[drawn.integers(0, len(_DRAWN), size)]

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of the events, in order."""
        number = itertools.count(self.first)
        for block in self.draws():
            for user, item, action in zip(*(column.tolist() for column in block), strict=True):
                i = next(number)
                event_id = f'"event_id":"e{i}",' if self.event_ids else ""
                value = (
                    f'{{"type":"action",{event_id}"user_id":"u{user + 1}","item_id":"i{item + 1}",'
                    f'"ts_ms":{self.ms(i)},"action":"{ACTIONS[action]}"}}'
                )
                yield b"u%d" % (user + 1), value.encode()


def produce(log: EventLog, kafka: KafkaSettings) -> None:
    """Create the log's topics and put its events into them; raises `SetupError`."""
    try:
        from confluent_kafka import Producer
    except ImportError as error:
        raise SetupError("benchmarks need confluent-kafka: pip install 'headwater[bench]'") from error
    topics = log.topics
    create_topics(kafka, topics)
    producer = Producer(
        {
            "bootstrap.servers": ",".join(kafka.bootstrap_servers),
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "batch.size": 262_144,
            "queue.buffering.max.messages": 400_000,
            "enable.idempotence": True,
            "log_level": 3,
        }
    )
    for number, (key, value) in enumerate(log.records()):
        while True:
            try:
                producer.produce(topics.events, value, key)
                break
            except BufferError:
                producer.poll(0.05)
        if number % 1_000 == 0:
            producer.poll(0)
    left = producer.flush(60)
    if left:
        raise SetupError(f"{left} events did not arrive in {topics.events} within 60 s; look at the broker's log")


def _zipf(count: int) -> npt.NDArray[np.float64]:
    shares = np.cumsum(1.0 / np.arange(1, count + 1))
    return np.asarray(shares / shares[-1])
