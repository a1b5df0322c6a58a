"""The outbox sender and a user who is forgotten while the user's samples are under way."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]  # aiokafka ships no types

from storage.changes import Acted, Forgot
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams import outbox_sender
from streams.forgotten import Forgotten, decode_due
from streams.outbox_sender import OutboxSender
from streams.topics import TopicSettings
from streams.worker_metrics import WorkerMetrics

USERS = ("ada", "bob", "eve")


class Batch:
    """Records as they would be sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes, bytes]] = []

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> object:
        self.sent.append((key, value, dict(headers)["id"]))
        return object()

    def record_count(self) -> int:
        return len(self.sent)

    def size(self) -> int:
        return 100 * len(self.sent)


class Producer(AIOKafkaProducer):  # type: ignore[misc]  # as above
    """Takes every batch at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes, bytes]] = []

    def __del__(self) -> None:
        pass

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Future[None]":
        assert topic == "samples"
        self.sent += batch.sent
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        arrived.set_result(None)
        return arrived


@pytest.mark.parametrize("forgets_at", [0, 1, 2, 3])
def test_what_is_forgotten_while_it_is_built_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgets_at: int
) -> None:
    """A sample of nothing would be sent, or what a user did would leave after the user was forgotten."""
    store = open_store(tmp_path)
    pauses: list[int] = []

    async def pause(seconds: float) -> None:
        assert seconds == 0
        pauses.append(len(pauses))
        if len(pauses) == forgets_at:
            store.apply(3, 3, [Forgot(3, "bob")])

    monkeypatch.setattr(outbox_sender, "BUILDING_SECONDS", -1.0)
    monkeypatch.setattr(asyncio, "sleep", pause)
    metrics, producer = WorkerMetrics(), Producer()
    asyncio.run(send_all(store, producer, metrics))
    due = [decode_due(value) for _, value, _ in producer.sent]
    word = [Forgotten(topic_id="t1", epoch=0, partition=0, trigger_offset=3, n=0, user_id="bob")]
    users = [each.user_id for each in due if not isinstance(each, Forgotten)]
    assert users == list(USERS if not forgets_at else ("ada", "eve"))
    assert [each for each in due if isinstance(each, Forgotten)] == (word if forgets_at else [])
    assert [each.item_ids for each in due if not isinstance(each, Forgotten)] == [[user] for user in users]
    if forgets_at:
        assert producer.sent[-1][0] == b"bob"
        assert producer.sent[-1][2] == b"0-0-3-0"
    assert metrics.counts()["headwater_samples_total"] == len(users)
    assert store.outbox_size == 0
    store.close()


def test_a_word_alone_is_sent(tmp_path: Path) -> None:
    """Where all that was taken is forgotten meanwhile, the sender would wait for something to come in."""
    store = open_store(tmp_path)
    store.apply(3, 5, [Forgot(3 + place, user) for place, user in enumerate(USERS)])
    producer = Producer()
    asyncio.run(send_all(store, producer, WorkerMetrics()))
    assert [key for key, _, _ in producer.sent] == [user.encode() for user in USERS]
    store.close()


def open_store(folder: Path) -> SequenceStore:
    settings = StoreSettings(folder=folder, actions=("like",), sample_every=1, session_gap_seconds=0)
    store = SequenceStore.open(settings, topic="events", partition=0, num_partitions=1, topic_id="t1")
    store.apply(0, 2, [Acted(place, user, place, place, user, 0) for place, user in enumerate(USERS)])
    return store


async def send_all(store: SequenceStore, producer: Any, metrics: WorkerMetrics) -> None:
    sender = OutboxSender(store, producer, topics=TopicSettings(), sample_events=5, metrics=metrics)
    while await sender._send_some():
        pass
