"""A forwarder without brokers: holes, brokers that take nothing, partitions that are no longer its own."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]  # aiokafka ships no types

from streams import forwarder as module
from streams.chunks import Chunk
from streams.events import Action, encode_event
from streams.faults import Ending
from streams.forwarder import Destination, Forwarder
from streams.ingress_metrics import IngressMetrics
from streams.ingress_settings import IngressSettings
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicDescription, TopicSettings

ACTION = encode_event(Action(user_id="u", item_id="i", action="like", ts_ms=1))


class FakeProducer:
    """Takes batches, after failing so many times; `sent` holds topic and values of each."""

    def __init__(self, num_failures: int = 0) -> None:
        self.sent: list[tuple[str, list[bytes]]] = []
        self.num_failures = num_failures

    def create_batch(self) -> Any:
        values: list[bytes] = []

        def append(*, value: bytes, **_: object) -> bool:
            values.append(value)
            return True

        return SimpleNamespace(append=append, record_count=lambda: len(values), values=values)

    async def send_batch(self, batch: Any, topic: str, partition: int) -> "asyncio.Future[None]":
        arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.num_failures:
            self.num_failures -= 1
            arrival.set_exception(KafkaTimeoutError())
        else:
            self.sent.append((topic, batch.values))
            arrival.set_result(None)
        return arrival


def chunk(start: int, *values: bytes) -> Chunk:
    records = [
        SimpleNamespace(offset=start + place, key=b"k", value=value, timestamp=1) for place, value in enumerate(values)
    ]
    return Chunk(partition=0, start=start, last=start + len(values) - 1, records=records)


def taken(
    producer: FakeProducer, folder: Path, monkeypatch: pytest.MonkeyPatch, *chunks: Chunk, begin: int = 0
) -> tuple[int | None, list[int], IngressMetrics]:
    """The next offset after these chunks, which partitions were to be sought, and the counts."""
    sought: list[int] = []
    metrics = IngressMetrics()
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)
    monkeypatch.setattr(module, "chunk_consumer", lambda app: SimpleNamespace(seek_later=sought.append))

    async def take() -> int | None:
        destination = Destination(
            topics=TopicSettings(), num_partitions=4, num_letter_partitions=4, actions=frozenset({"like"})
        )
        settings = IngressSettings()
        forwarder = Forwarder(
            KafkaSettings(), "theirs", "action", destination, settings, metrics, producer, Ending(), folder
        )
        forwarder._positions.description = TopicDescription(topic_id="t1", num_partitions=1)
        if begin >= 0:
            forwarder._positions._next[0] = begin
        for each in chunks:
            await forwarder._take(each)
        return forwarder._positions.next_offset(0)

    return asyncio.run(take()), sought, metrics


def test_what_brokers_do_not_take_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that was refused once is gone, and the next commit says that it was forwarded."""
    producer = FakeProducer(num_failures=2)
    offset, _, metrics = taken(producer, tmp_path, monkeypatch, chunk(0, ACTION, b"{", ACTION))
    assert offset == 3
    ((events, values), (letters, heads)) = producer.sent
    assert (events, letters) == ("events", "events.dlq")
    assert [value.count(b'"event_id":"t1-0-') for value in values] == [1, 1]
    assert heads == [b"{"]
    assert metrics.registry.get_sample_value("headwater_forwarded_total", {"topic": "theirs"}) == 2
    labels = {"topic": "theirs", "cause": "malformed_json"}
    assert metrics.registry.get_sample_value("headwater_refused_total", labels) == 1


def test_a_hole_is_read_again_and_nothing_after_it_is_forwarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that was lost within Faust is passed over by the commit of the next one."""
    producer = FakeProducer()
    offset, sought, metrics = taken(producer, tmp_path, monkeypatch, chunk(0, ACTION), chunk(5, ACTION))
    assert (offset, sought) == (1, [0])
    assert len(producer.sent) == 1
    assert metrics.registry.get_sample_value("headwater_holes_total", {"topic": "theirs"}) == 1


def test_only_what_is_new_of_a_chunk_is_forwarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    producer = FakeProducer()
    offset, _, _ = taken(producer, tmp_path, monkeypatch, chunk(0, ACTION, ACTION), chunk(1, ACTION, ACTION))
    assert offset == 3
    assert [len(values) for _, values in producer.sent] == [2, 1]


def test_a_partition_that_was_taken_away_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its new owner forwards it."""
    producer = FakeProducer()
    offset, sought, _ = taken(producer, tmp_path, monkeypatch, chunk(0, ACTION), begin=-1)
    assert (offset, sought, producer.sent) == (None, [], [])
