"""Bodies that were made as records passed are those that a read as of the trigger gives."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from storage.changes import Acted, Change, Exposed, SampleRef, Ticked
from storage.errors import StateError
from storage.recent import REQUESTS
from storage.sample_body import (
    NEW_ACTION,
    NEW_EXPOSURE,
    NEW_FURTHER_ACTION,
    NEW_LATE_ACTION,
    SampleBody,
    body_of,
    decode_body,
    encode_body,
)
from storage.sequence_store import SequenceStore
from tests.storage.plain import StoreFactory
from tests.storage.records import acted, exposed

NUM = 400
LAST = 6


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks of a few rows, and events that leave the recent ones soon."""
    monkeypatch.setattr("storage.fragments.MAX_FRAGMENTS", 3)
    monkeypatch.setattr("storage.fragments.BLOCK_ROWS", 5)
    monkeypatch.setattr("storage.runs.SPARE_EVENTS", 3)


def timely_changes(seed: int, *, users: int, items: int, shown: float, late: float) -> list[Change]:
    """Changes of which a share of `late` is not in order of time, and a share of `shown` are impressions."""
    rng = random.Random(seed)
    changes: list[Change] = []
    for offset in range(NUM):
        user_id, ts_ms = f"user{rng.randrange(users)}", 1_000 + 2 * offset
        if rng.random() < late:
            ts_ms -= rng.choice([2, 2, 3, 40])
        request_id = f"r{(offset + rng.randrange(-3, 3)) // 6}" if rng.random() < 0.6 else None
        event_id = f"e{rng.randrange(offset + 20)}" if rng.random() < 0.1 else None
        if rng.random() < shown:
            shown_ids = [f"i{rng.randrange(items)}" for _ in range(rng.randint(1, 3))]
            changes.append(Exposed(offset, user_id, ts_ms, offset, shown_ids, request_id, event_id))
        elif rng.random() < 0.05:
            changes.append(Ticked(offset, ts_ms + rng.randrange(30)))
        else:
            item_id, value = f"i{rng.randrange(items)}", rng.choice([None, None, 1.5, -2.0])
            changes.append(
                Acted(offset, user_id, ts_ms, offset, item_id, rng.randrange(3), value, request_id, event_id)
            )
    return changes


def chunks_of(changes: list[Change], rng: random.Random) -> Iterator[list[Change]]:
    start = 0
    while start < len(changes):
        end = min(len(changes), start + rng.choice([1, 3, 20, 90]))
        yield changes[start:end]
        start = end


def compare(store: SequenceStore, last: int) -> tuple[int, int]:
    """Hold each due sample's body against a read, then acknowledge all; how many there were, and were prepared."""
    due = store.outbox(10_000)
    prepared = 0
    for key, item in due:
        assert isinstance(item, SampleRef)
        prepared += store._prepared.body(item.user_id, key.position) is not None
        read = store.read(item.user_id, until=key.position, since=item.since, last=last)
        found = store.read_bodies(item.user_id, [(key.position, item.since)], last=last)
        assert [decode_body(body) for body in found] == [body_of(read, item.since)], (key, item)
        assert found == [encode_body(body_of(read, item.since))]
    store.acknowledge([key for key, _ in due])
    return len(due), prepared


@pytest.mark.parametrize("seed", range(24))
def test_a_body_that_was_prepared_is_what_a_read_as_of_its_trigger_gives(
    store_factory: StoreFactory, seed: int
) -> None:
    """The learner would learn one thing before a restart and another after it."""
    rng = random.Random(seed)
    last = rng.choice([1, 3, LAST, 500])
    store = store_factory(
        cap=rng.choice([12, 40, 1_000]),
        attribution_seconds=rng.choice([0.0, 0.01, 0.05, 10.0]),
        sample_every=rng.choice([1, 2, 4]),
        sample_exposures=rng.choice([3, 8]),
        session_gap_seconds=rng.choice([0.0, 0.02]),
    )
    store.prepare_samples(last)
    shown, late = rng.choice([0.0, 0.2, 0.6]), rng.choice([0.0, 0.05])
    changes = timely_changes(seed, users=rng.choice([1, 3]), items=rng.choice([3, 30]), shown=shown, late=late)
    num = prepared = 0
    for chunk in chunks_of(changes, rng):
        store.apply(store.applied + 1, chunk[-1].offset, chunk)
        if rng.random() < 0.6:
            num, prepared = map(sum, zip((num, prepared), compare(store, last), strict=True))
    num, prepared = map(sum, zip((num, prepared), compare(store, last), strict=True))
    assert num > 20
    assert prepared == num


def bodies(store: SequenceStore, last: int = LAST) -> list[SampleBody]:
    return [
        decode_body(store.read_bodies(item.user_id, [(key.position, item.since)], last=last)[0])
        for key, item in store.outbox(10_000)
        if isinstance(item, SampleRef)
    ]


@pytest.mark.parametrize("is_prepared", [True, False])
def test_an_action_is_late_whose_exposure_was_in_an_earlier_sample(
    store_factory: StoreFactory, is_prepared: bool
) -> None:
    """An action in time, or on what was never shown, would take back a negative that was not learned."""
    store = store_factory()
    if is_prepared:
        store.prepare_samples(LAST)
    acts = [acted(1, "a"), acted(2, "b"), acted(3, "b", action=2), acted(4, "organic")]
    changes: list[Change] = [exposed(0, "a", "b", "c"), *acts, exposed(5, "b"), acted(6, "c"), acted(7, "b")]
    for offset, change in enumerate(changes):
        store.apply(offset, offset, [change])
    acted_late = NEW_ACTION | NEW_LATE_ACTION
    assert [body.new for body in bodies(store)] == [
        [NEW_EXPOSURE | NEW_ACTION, NEW_EXPOSURE, NEW_EXPOSURE],
        [0, acted_late, 0],
        [0, NEW_FURTHER_ACTION, 0],
        [0, 0, 0, NEW_ACTION],
        [0, 0, acted_late, 0, NEW_EXPOSURE],
        [0, 0, 0, 0, acted_late],
    ]
    num, prepared = compare(store, LAST)
    assert (num, prepared) == (6, 6 if is_prepared else 0)


@pytest.mark.parametrize(("ready", "recent"), [(0, 10**6), (70_000, 10**6), (10**6, 0), (10**6, 700)])
def test_what_finds_no_room_is_read_and_comes_to_the_same(
    store_factory: StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: int, recent: int
) -> None:
    """While Kafka stands still bodies pile up: memory has to stay bounded, and the samples the same."""
    changes = timely_changes(1, users=3, items=10, shown=0.3, late=0.0)
    outcomes = []
    monkeypatch.setattr("storage.prepared.MAX_READY_BYTES", ready)
    monkeypatch.setattr("storage.prepared.MAX_RECENT_BYTES", recent)
    for folder in ("bounded", "free"):
        store = store_factory(folder=tmp_path / folder, sample_every=2)
        store.prepare_samples(LAST)
        for chunk in chunks_of(changes, random.Random(7)):
            store.apply(store.applied + 1, chunk[-1].offset, chunk)
            if folder == "free":
                ready_bodies = store._prepared._ready.values()
                assert store._prepared._num_ready == sum(map(len, ready_bodies))
        outcomes.append(bodies(store))
        if folder == "bounded":
            held = store._prepared
            assert held._num_ready <= ready
            assert held._num_recent <= recent
            assert held._num_recent == sum(map(len, held._recent.values()))
        monkeypatch.undo()
    assert outcomes[0] == outcomes[1]


def test_item_ids_are_kept_once_and_not_for_ever(store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event would hold an id of its own, and a catalogue that is never done would fill the memory."""
    monkeypatch.setattr("storage.names.MAX_NAMES", 20)
    store = store_factory(sample_every=5)
    store.prepare_samples(LAST)
    for start in range(0, 200, 10):
        store.apply(start, start + 9, [acted(offset, f"i{offset // 3}") for offset in range(start, start + 10)])
        assert len(store._prepared.names) <= 24
    num, prepared = compare(store, LAST)
    assert (num, prepared) == (40, 40)


def test_bodies_go_with_their_acknowledgement(store_factory: StoreFactory) -> None:
    """What was sent would stay in memory for ever."""
    store = store_factory()
    store.prepare_samples(LAST)
    store.apply(0, 9, [acted(offset) for offset in range(10)])
    assert len(store._prepared._ready) == 10
    store.acknowledge([key for key, _ in store.outbox(4)])
    assert len(store._prepared._ready) == 6
    store.acknowledge([key for key, _ in store.outbox(10)])
    assert (len(store._prepared._ready), store._prepared._num_ready) == (0, 0)


def test_bodies_are_prepared_for_the_length_that_is_asked_for_and_only_without_an_exposure_rate(
    store_factory: StoreFactory, tmp_path: Path
) -> None:
    """A body of another length, or with exposures that were to be left out, would be learned."""
    store = store_factory()
    with pytest.raises(ValueError, match="last must be >= 1, got 0"):
        store.prepare_samples(0)
    store.prepare_samples(2)
    store.apply(0, 9, [acted(offset, f"i{offset}") for offset in range(10)])
    assert [len(body.item_ids) for body in bodies(store, 5)] == [1, 2, 3, 4, 5, 5, 5, 5, 5, 5]
    thinned = store_factory(folder=tmp_path / "thinned", exposure_rate=0.5)
    thinned.prepare_samples(LAST)
    thinned.apply(0, 9, [exposed(offset, f"i{offset}") for offset in range(9)] + [acted(9, "i8")])
    assert not thinned._prepared._ready
    assert bodies(thinned)


def test_what_was_prepared_goes_when_the_chunk_could_not_be_written(
    store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies and recent events would be ahead of the state: the same records, applied again, would count twice."""
    store = store_factory()
    store.prepare_samples(LAST)
    store.apply(0, 1, [acted(0), acted(1)])

    def full(_: object) -> None:
        raise StateError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(store._db, "write", full)
        with pytest.raises(StateError, match="no space left"):
            store.apply(2, 3, [acted(2), acted(3)])
    store.apply(2, 3, [acted(2), acted(3)])
    assert [body.ts_ms for body in bodies(store)] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_too_many_requests_named_by_actions_are_not_kept_in_mind(
    store_factory: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who never stops naming requests must not grow in memory."""
    monkeypatch.setattr("storage.runs.MAX_REQUESTS", 5)
    store = store_factory(cap=1_100, attribution_seconds=0.001)
    store.prepare_samples(LAST)
    changes: list[Change] = [acted(offset, request_id=f"r{offset}") for offset in range(40)]
    for change in changes:
        store.apply(change.offset, change.offset, [change])
    assert compare(store, LAST) == (40, 40)
    recent = store._prepared.recent("ada")
    assert 0 < np.frombuffer(recent, np.int64)[REQUESTS] < 40
