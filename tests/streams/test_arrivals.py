"""What a standby drops of its outboxes."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage.changes import Acted, Change, Refused
from storage.entries import pack_position
from storage.errors import SetupError
from storage.keys import OutboxKey
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.arrivals import Arrivals, OutboxPruner
from streams.topics import TopicSettings


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    """Arrivals without a broker."""
    made: Arrivals = object.__new__(Arrivals)
    made.samples, made.letters, made._topics = {}, {}, TopicSettings()
    return made


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A store with samples due at even offsets and dead letters at odd ones, 0 to 9."""
    opened = SequenceStore.open(
        StoreSettings(folder=tmp_path), topic="events", partition=3, num_partitions=4, topic_id="t"
    )
    changes: list[Change] = [
        Refused(offset=offset, kafka_ms=0, cause="x", message="x", key=b"", head=b"", size=0, sha256="")
        if offset % 2
        else Acted(offset=offset, user_id="u", ts_ms=offset, kafka_ms=0, item_id="i", action=0)
        for offset in range(10)
    ]
    opened.apply(0, 9, changes)
    yield opened
    opened.close()


def record(topic: str, headers: dict[str, bytes], arrivals: Arrivals) -> None:
    place = SimpleNamespace(topic=topic, partition=3)
    arrivals._note(place, [SimpleNamespace(headers=list(headers.items()))])


def left(store: SequenceStore) -> list[int]:
    return [key.position for key, _ in store.outbox(100)]


def test_what_precedes_an_id_that_arrived_is_dropped_each_kind_by_its_own(
    store: SequenceStore, arrivals: Arrivals
) -> None:
    """Samples and dead letters travel apart: one may have arrived and the other not."""
    pruner = OutboxPruner(store, arrivals)
    asyncio.run(pruner.prune())
    assert left(store) == list(range(10))
    record("samples", {"id": b"0-3-4-0"}, arrivals)
    asyncio.run(pruner.prune())
    assert left(store) == [1, 3, 5, 6, 7, 8, 9]
    record("events.dlq", {"headwater.id": b"0-3-7", "__streams.errors.topic": b"events"}, arrivals)
    record("samples", {"id": b"0-3-2-0"}, arrivals)
    asyncio.run(pruner.prune())
    assert left(store) == [6, 8, 9]
    record("samples", {"id": b"0-3-100-5"}, arrivals)
    asyncio.run(pruner.prune())
    assert left(store) == [9]


@pytest.mark.parametrize(
    ("topic", "headers"),
    [
        ("samples", {}),
        ("samples", {"id": b""}),
        ("samples", {"id": b"x-3-4-0"}),
        ("samples", {"id": b"0-3-4-0-1"}),
        ("samples", {"id": b"0-3-" + b"9" * 50 + b"-0"}),
        ("samples", {"id": "0-3-\u0664-0".encode()}),
        ("events.dlq", {"headwater.id": b"0-3-7"}),
        ("events.dlq", {"headwater.id": b"0-3-7", "__streams.errors.topic": b"actions"}),
    ],
)
def test_what_others_wrote_drops_nothing(
    store: SequenceStore, arrivals: Arrivals, topic: str, headers: dict[str, bytes]
) -> None:
    """A sample that is dropped and has not arrived is lost for ever."""
    record(topic, headers, arrivals)
    asyncio.run(OutboxPruner(store, arrivals).prune())
    assert left(store) == list(range(10))


def test_an_owner_in_a_later_epoch_of_the_log_is_refused(store: SequenceStore, arrivals: Arrivals) -> None:
    """Its ids are above all that the standby would send: who reads would drop every one of them."""
    arrivals.samples[3] = OutboxKey(pack_position(1, 0), 0)
    with pytest.raises(SetupError, match="partition 3 is in epoch 1 at its owner and in 0 here"):
        asyncio.run(OutboxPruner(store, arrivals).run())
