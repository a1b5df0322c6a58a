"""Events that come in while things break: impressions, actions, updates, late ones, duplicates and rubbish."""

import random
import threading
import time
from types import TracebackType
from typing import Any, TypeAlias

from confluent_kafka import Producer

from streams.broken import broken_records
from streams.events import MAX_FUTURE_MS, Action, Impression, UserUpdate, encode_event
from streams.kafka_settings import KafkaSettings
from streams.partitioning import partition_of
from streams.topics import TopicSettings

ACTIONS = ("click", "like", "dislike", "rate")
BURST_SECONDS = 0.02
Visit: TypeAlias = Impression | Action | UserUpdate
LATEST_MS = 20_000
"""How late the latest events are."""
FILL_MS = 20
REMEMBERED = 200
"""Events that may be sent once more, and impressions that may be acted on."""


class Visits:
    """What users of one generation do; every choice comes from the seed, times from whoever asks."""

    def __init__(self, seed: int, users: int) -> None:
        self._random = random.Random(seed)
        self._name = f"{seed}"
        self._users = users
        self._shown: list[Impression] = []
        self._sent: list[Visit] = []
        self._number = 0

    def next_event(self, now_ms: int) -> Visit:
        """The next event: now and then one that was sent before, or one that is late."""
        draw = self._random.random()
        if draw < 0.04 and self._sent:
            return self._random.choice(self._sent)
        late = self._random.randrange(LATEST_MS) if draw < 0.12 else 0
        event = self._new_event(max(0, now_ms - late))
        self._sent = [*self._sent[-REMEMBERED:], event]
        return event

    def _new_event(self, ts_ms: int) -> Visit:
        random_ = self._random
        self._number += 1
        about: dict[str, Any] = {"event_id": f"{self._name}-{self._number}", "ts_ms": ts_ms}
        user_id, kind = f"{self._name}-user-{random_.randrange(self._users)}é", random_.random()
        if kind < 0.35:
            items = [f"item {random_.randrange(90)}" for _ in range(random_.randrange(1, 8))]
            shown = Impression(**about, user_id=user_id, items=items, request_id=f"r{self._name}-{self._number}")
            self._shown = [*self._shown[-REMEMBERED:], shown]
            return shown
        if kind < 0.4 or not self._shown:
            return UserUpdate(**about, user_id=user_id, features={"n": self._number // 40})
        shown = random_.choice(self._shown)
        return Action(
            **about,
            user_id=shown.user_id,
            item_id=random_.choice([*shown.items, "item nobody was shown"]),
            action=random_.choice(ACTIONS),
            value=random_.choice([None, 1.0, 4.5]),
            request_id=random_.choice([None, shown.request_id]),
        )


class Load:
    """Sends visits while the context lasts; what a dead broker swallows is not in the log, and so never was."""

    def __init__(
        self, kafka: KafkaSettings, topics: TopicSettings, *, seed: int, per_second: int = 300, users: int = 60
    ) -> None:
        self.num_sent = 0
        self._topic = topics.events
        self._producer = new_producer(kafka)
        self._visits = Visits(seed, users)
        self._random = random.Random(seed)
        self._broken = [record for record in broken_records(int(time.time() * 1000), 30) if len(record[1]) < 20_000]
        self._burst = max(1, round(per_second * BURST_SECONDS))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.error: BaseException | None = None

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop sending and wait until everything is in the log; raises what went wrong."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def _send(self) -> None:
        try:
            while not self._stop.wait(BURST_SECONDS):
                self._send_burst(int(time.time() * 1000))
            assert not self._producer.flush(30), "the broker does not take what is left"
        except BaseException as error:
            self.error = error

    def _send_burst(self, now_ms: int) -> None:
        for _ in range(self._burst):
            if self._random.random() < 0.01:
                key, value, _ = self._random.choice(self._broken)
            else:
                event = self._visits.next_event(now_ms)
                key, value = event.user_id.encode(), encode_event(event)
            self._producer.produce(self._topic, key=key, value=value)
            self.num_sent += 1
        self._producer.poll(0)


def fill(kafka: KafkaSettings, topics: TopicSettings, *, seed: int, count: int, users: int = 60) -> None:
    """Put so many visits into the log at once, in small batches, their times a few milliseconds apart."""
    producer, visits = new_producer(kafka, **{"batch.num.messages": "8"}), Visits(seed, users)
    first_ms = int(time.time() * 1000) - FILL_MS * count
    for number in range(count):
        event = visits.next_event(first_ms + FILL_MS * number)
        producer.produce(topics.events, key=event.user_id.encode(), value=encode_event(event))
        producer.poll(0)
    assert not producer.flush(30)


def close_sessions(kafka: KafkaSettings, topics: TopicSettings) -> None:
    """Move every partition's time far ahead, so that no timer is left for whom a `Tick` would be appended."""
    producer = new_producer(kafka)
    ahead_ms = int(time.time() * 1000) + MAX_FUTURE_MS * 9 // 10
    users = {partition_of(f"closing {number}", topics.num_partitions): f"closing {number}" for number in range(100)}
    assert len(users) == topics.num_partitions
    for user_id in users.values():
        update = UserUpdate(event_id=user_id, ts_ms=ahead_ms, user_id=user_id, features={"closing": True})
        producer.produce(topics.events, key=user_id.encode(), value=encode_event(update))
    assert not producer.flush(30)


def new_producer(kafka: KafkaSettings, **options: str) -> Producer:
    """A producer that puts users where Headwater's own does, and outlives its broker."""
    usual = {
        "bootstrap.servers": ",".join(kafka.bootstrap_servers),
        "partitioner": "murmur2_random",
        "enable.idempotence": "true",
        "linger.ms": "5",
        "log_level": "0",
    }
    return Producer({**usual, **options})
