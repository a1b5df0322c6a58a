import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.changes import Change, SampleRef
from storage.errors import StateError
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from tests.storage.plain import StoreFactory, make_changes, plain_fold

NUM = 240
SHOWN = 7
"""More than a block holds: an impression may not be parted, for a key is a position."""


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging and pruning after a handful of entries, not after thousands."""
    monkeypatch.setattr("storage.fragments.MAX_FRAGMENTS", 3)
    monkeypatch.setattr("storage.fragments.BLOCK_ENTRIES", 5)
    monkeypatch.setattr("storage.store_settings.MAX_EXPOSED", SHOWN)


def open_store(folder: Path, *, cap: int, sample_every: int = 2, sample_exposures: int = 3) -> SequenceStore:
    chosen = StoreSettings(folder=folder, cap=cap, sample_every=sample_every, sample_exposures=sample_exposures)
    return SequenceStore.open(chosen, topic="events", partition=0, num_partitions=1, topic_id="t1")


def apply_in_chunks(folder: Path, changes: list[Change], rng: random.Random, *, cap: int) -> SequenceStore:
    store = open_store(folder, cap=cap)
    while store.applied < NUM - 1:
        if rng.random() < 0.2:
            store.close()
            store = open_store(folder, cap=cap)
        start = rng.randint(max(0, store.applied - 30), store.applied + 1)
        last = min(NUM - 1, start + rng.randrange(60))
        store.apply(start, last, [change for change in changes if start <= change.offset <= last])
    return store


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), cap=st.integers(12, 40))
def test_state_does_not_depend_on_chunks_nor_on_what_is_delivered_again_nor_on_reopening(seed: int, cap: int) -> None:
    """State is a pure function of the log's prefix: otherwise a replay forms other samples under the same ids."""
    changes = make_changes(NUM, seed=seed, shown=SHOWN)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        whole = open_store(Path(first), cap=cap)
        whole.apply(0, NUM - 1, changes)
        cut = apply_in_chunks(Path(second), changes, random.Random(seed), cap=cap)
        assert cut.outbox(10_000) == whole.outbox(10_000)
        assert sorted(cut.users()) == sorted(whole.users())
        assert cut.num_users == whole.num_users
        for user_id in whole.users():
            assert cut.read(user_id) == whole.read(user_id) == plain_fold(changes, user_id, cap=cap)
            assert cut.features(user_id) == whole.features(user_id)
        for store in (whole, cut):
            store.close()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), cap=st.integers(12, 20), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_pending_references_read_what_they_read_when_they_became_due(seed: int, cap: int, share: float) -> None:
    """Merging and pruning may not change a sample that is still to be built, nor lose a record of its range."""
    changes = make_changes(NUM, seed=seed, users=2, shown=SHOWN)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder), cap=cap)
        while store.applied < NUM - 1:
            start = store.applied + 1
            last = min(NUM - 1, start + rng.randrange(25))
            store.apply(start, last, changes_between(changes, start, last))
            check_pending(store, changes, cap)
            due = store.outbox(10_000)
            store.acknowledge(key for key, _ in due[: int(len(due) * share)])
        for user_id in store.users():
            assert store.read(user_id) == plain_fold(changes, user_id, cap=cap)
        store.close()


def changes_between(changes: list[Change], start: int, last: int) -> list[Change]:
    return [change for change in changes if start <= change.offset <= last]


def check_pending(store: SequenceStore, changes: list[Change], cap: int) -> None:
    for key, item in store.outbox(10_000):
        if isinstance(item, SampleRef):
            expected = plain_fold(changes, item.user_id, cap=cap, until=key.position)
            assert store.read(item.user_id, until=key.position) == expected
            of_range = store.entries(item.user_id, since=item.since, until=key.position)
            assert len(of_range) == item.num_records


def test_a_read_as_of_what_is_pruned_is_refused(store_factory: StoreFactory) -> None:
    """A sequence with holes must not pass for the one that was."""
    changes = make_changes(NUM, users=1)
    store = store_factory(cap=12, sample_every=2, sample_exposures=3)
    for start in range(0, NUM, 20):
        store.apply(start, start + 19, changes_between(changes, start, start + 19))
        store.acknowledge(key for key, _ in store.outbox(1_000))
    with pytest.raises(StateError, match="the sequence of 'user0' as of position 9 is no longer kept: read it as of"):
        store.read("user0", until=9)
    assert len(store.entries("user0")) <= 2 * 12 * 7 + 40
    assert store.read("user0", until=NUM) == plain_fold(changes, "user0", cap=12)


def test_a_user_takes_few_keys_and_a_bounded_number_of_entries(store_factory: StoreFactory) -> None:
    """Fragments that are never merged make every read slower for ever."""
    changes = make_changes(3_000, users=1, shown=1)
    store = store_factory(cap=12, sample_every=2, sample_exposures=3)
    most_entries = most_keys = 0
    for start in range(0, 3_000, 5):
        store.apply(start, start + 4, changes_between(changes, start, start + 4))
        store.acknowledge(key for key, _ in store.outbox(1_000))
        most_entries = max(most_entries, len(store.entries("user0")))
        most_keys = max(most_keys, len(list(store._db.scan(b"f", b"g"))))
    assert most_entries <= 2 * (12 * 7 + 5)
    assert most_keys <= most_entries // 5 + 3 + 1
