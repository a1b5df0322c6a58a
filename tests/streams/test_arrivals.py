"""What a standby drops of its outboxes."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage.changes import Acted, Change, Forgot, Refused
from storage.entries import pack_position
from storage.errors import SetupError
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.arrivals import Arrivals, OutboxPruner
from streams.dead_letters import source_headers
from streams.forgotten import encode_forgotten
from streams.samples import encode_sample
from streams.topics import TopicSettings
from tests.streams.made_samples import forgotten_factory, sample_factory


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


def record(topic: str, arrivals: Arrivals, headers: dict[str, bytes] | None = None, value: bytes = b"") -> None:
    place = SimpleNamespace(topic=topic, partition=3)
    arrivals._note(place, [SimpleNamespace(headers=list((headers or {}).items()), value=value)])


def sample(arrivals: Arrivals, offset: int, *, topic_id: str = "t", epoch: int = 0, n: int = 0) -> None:
    """A sample at the end of its topic."""
    made = sample_factory(topic_id=topic_id, epoch=epoch, partition=3, trigger_offset=offset, n=n)
    record("samples", arrivals, value=encode_sample(made))


def letter(arrivals: Arrivals, offset: int, *, topic_id: str = "t") -> None:
    """A dead letter at the end of its topic."""
    refused = Refused(offset=offset, kafka_ms=0, cause="x", message="x", key=b"", head=b"", size=0, sha256="")
    record("events.dlq", arrivals, dict(source_headers("events", 3, refused, topic_id)))


def left(store: SequenceStore) -> list[int]:
    return [key.position for key, _ in store.outbox(100)]


def test_what_precedes_an_id_that_arrived_is_dropped_each_kind_by_its_own(
    store: SequenceStore, arrivals: Arrivals
) -> None:
    """Samples and dead letters travel apart: one may have arrived and the other not."""
    pruner = OutboxPruner(store, arrivals)
    asyncio.run(pruner.prune())
    assert left(store) == list(range(10))
    sample(arrivals, 4)
    asyncio.run(pruner.prune())
    assert left(store) == [1, 3, 5, 6, 7, 8, 9]
    letter(arrivals, 7)
    asyncio.run(pruner.prune())
    assert left(store) == [6, 8, 9]
    sample(arrivals, 100, n=5)
    sample(arrivals, 2)
    asyncio.run(pruner.prune())
    assert left(store) == [9]


def test_ids_of_another_log_drop_nothing(store: SequenceStore, arrivals: Arrivals) -> None:
    """Where owner and standby were made from nothing, the last samples of a former log stand above all of this one."""
    for topic_id in ("t-0", "t"):
        letter(arrivals, 9, topic_id=topic_id)
        letter(arrivals, 900, topic_id="t-0")
        sample(arrivals, 900, topic_id="t-0", epoch=3)
        asyncio.run(OutboxPruner(store, arrivals).prune())
        assert left(store) == list(range(10))
    letter(arrivals, 9)
    sample(arrivals, 8)
    asyncio.run(OutboxPruner(store, arrivals).prune())
    assert left(store) == []


def test_ids_of_an_owner_in_a_former_epoch_drop_what_they_name(tmp_path: Path, arrivals: Arrivals) -> None:
    """An owner that was made from nothing is in epoch 0 again: the standby would keep all that has arrived."""
    settings = StoreSettings(folder=tmp_path)
    for topic_id in ("t-0", "t"):
        opened = SequenceStore.open(settings, topic="events", partition=3, num_partitions=4, topic_id=topic_id)
        changes = [Acted(offset=at, user_id="u", ts_ms=at, kafka_ms=0, item_id="i", action=0) for at in range(3)]
        opened.apply(0, 2, changes)
        if topic_id == "t":
            sample(arrivals, 1, epoch=0)
            asyncio.run(OutboxPruner(opened, arrivals).prune())
            assert left(opened) == [pack_position(1, 2)]
        opened.close()


@pytest.mark.parametrize(
    ("topic", "headers"),
    [
        ("samples", {}),
        ("events.dlq", {"headwater.id": b"t-3-7"}),
        ("events.dlq", {"headwater.id": b"t-3-7", "__streams.errors.topic": b"actions"}),
        ("events.dlq", {"headwater.id": b"", "__streams.errors.topic": b"events"}),
        ("events.dlq", {"headwater.id": b"3-7", "__streams.errors.topic": b"events"}),
        ("events.dlq", {"headwater.id": b"t-3-x", "__streams.errors.topic": b"events"}),
        ("events.dlq", {"headwater.id": "t-3-\u0664".encode(), "__streams.errors.topic": b"events"}),
        ("events.dlq", {"headwater.id": b"t-3-" + b"9" * 50, "__streams.errors.topic": b"events"}),
    ],
)
def test_what_others_wrote_drops_nothing(
    store: SequenceStore, arrivals: Arrivals, topic: str, headers: dict[str, bytes]
) -> None:
    """A sample that is dropped and has not arrived is lost for ever."""
    record(topic, arrivals, headers)
    asyncio.run(OutboxPruner(store, arrivals).prune())
    assert left(store) == list(range(10))


def test_an_owner_in_a_later_epoch_of_the_log_is_refused(store: SequenceStore, arrivals: Arrivals) -> None:
    """It kept sequences of a former log, which this standby would be without once it took over."""
    sample(arrivals, 0, epoch=1)
    with pytest.raises(SetupError, match="partition 3 is in epoch 1 at its owner and in 0 here"):
        asyncio.run(OutboxPruner(store, arrivals).run())


def test_word_of_a_forgotten_user_counts_among_the_samples(store: SequenceStore, arrivals: Arrivals) -> None:
    """Where it is the last that arrived, a standby would send all before it again, and the word at each takeover."""
    store.apply(10, 10, [Forgot(10, "u")])
    assert left(store) == [1, 3, 5, 7, 9, 10]
    word = forgotten_factory(topic_id="t", partition=3, trigger_offset=10)
    letter(arrivals, 9)
    asyncio.run(OutboxPruner(store, arrivals).prune())
    assert left(store) == [10]
    record("samples", arrivals, value=encode_forgotten(word))
    asyncio.run(OutboxPruner(store, arrivals).prune())
    assert left(store) == []
