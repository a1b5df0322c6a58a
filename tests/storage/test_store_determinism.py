import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from storage.changes import Acted, Change, Exposed, SampleRef
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from tests.storage.plain import PlainRules, PlainStore, make_changes, summaries

NUM = 240
SHOWN = 7
"""More than a block holds: an impression may not be parted, for a key is a position."""

PHASES = (Phase.explicit, Phase.generate)
"""Without shrinking, which takes minutes with databases; the seed says enough."""

RULES = st.builds(
    PlainRules,
    cap=st.integers(6, 40),
    window_ms=st.sampled_from([0, 5, 20, 500]),
    rate=st.sampled_from([1.0, 0.5]),
    sample_every=st.integers(1, 3),
    sample_exposures=st.just(3),
    label_delay_ms=st.sampled_from([0, 7, 25]),
    session_gap_ms=st.sampled_from([0, 4, 15]),
)


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging after a handful of rows, not after hundreds."""
    monkeypatch.setattr("storage.fragments.MAX_FRAGMENTS", 3)
    monkeypatch.setattr("storage.fragments.BLOCK_ROWS", 5)


def open_store(folder: Path, rules: PlainRules) -> SequenceStore:
    chosen = StoreSettings(folder=folder, **rules.settings())
    return SequenceStore.open(chosen, topic="events", partition=0, num_partitions=1, topic_id="t1")


def apply_in_chunks(folder: Path, changes: list[Change], rng: random.Random, rules: PlainRules) -> SequenceStore:
    store = open_store(folder, rules)
    while store.applied < NUM - 1:
        if rng.random() < 0.2:
            store.close()
            store = open_store(folder, rules)
        start = rng.randint(max(0, store.applied - 30), store.applied + 1)
        last = min(NUM - 1, start + rng.randrange(60))
        store.apply(start, last, [change for change in changes if start <= change.offset <= last])
    return store


@settings(max_examples=25, deadline=None, derandomize=True, phases=PHASES)
@given(seed=st.integers(0, 2**32), rules=RULES)
def test_state_is_what_the_log_says_however_it_was_cut_and_whatever_was_delivered_again(
    seed: int, rules: PlainRules
) -> None:
    """State is a pure function of the log's prefix: otherwise a replay forms other samples under the same ids."""
    changes = make_changes(NUM, seed=seed, shown=SHOWN)
    plain = PlainStore(rules)
    plain.apply(changes)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        whole = open_store(Path(first), rules)
        applied = whole.apply(0, NUM - 1, changes)
        assert {name: getattr(applied, name) for name in plain.counts} == plain.counts
        cut = apply_in_chunks(Path(second), changes, rng, rules)
        for store in (whole, cut):
            assert samples_of(store) == plain.samples
            assert store.num_users == len(plain.users) == len(list(store.users()))
            assert store.num_timers == sum(user.timer_due > 0 for user in plain.users.values())
            for user_id in plain.users:
                expected = [event.summary() for event in plain.events(user_id)]
                assert summaries(store.read(user_id)) == expected
                for last in (1, 3, 10):
                    assert summaries(store.read(user_id, last=last)) == expected[-last:]
            store.close()


@settings(max_examples=15, deadline=None, derandomize=True, phases=PHASES)
@given(seed=st.integers(0, 2**32), rules=RULES)
def test_a_pending_sample_is_read_as_of_its_trigger_whatever_came_later(seed: int, rules: PlainRules) -> None:
    """A sample that is built late, or again after a restart, must be the one that was built at once."""
    changes = make_changes(NUM, seed=seed, shown=SHOWN, users=2)
    with tempfile.TemporaryDirectory() as folder:
        store = apply_in_chunks(Path(folder), changes, random.Random(seed), rules)
        for key, item in store.outbox(10_000):
            if not isinstance(item, SampleRef):
                continue
            plain = PlainStore(rules)
            plain.apply(change for change in changes if change.offset <= key.position)
            expected = [event.summary() for event in plain.events(item.user_id)]
            found = summaries(store.read(item.user_id, until=key.position, last=2, since=item.since))
            new = [place for place, event in enumerate(expected) if event[6] > item.since]
            start = min([max(0, len(expected) - 2), *new])
            assert found == expected[start:]
        store.close()


@settings(max_examples=15, deadline=None, derandomize=True, phases=PHASES)
@given(seed=st.integers(0, 2**32), rules=RULES)
def test_the_order_of_arrival_makes_no_difference_to_a_sequence(seed: int, rules: PlainRules) -> None:
    """Late events and actions that overtake their impression must lead to the same sequence."""
    roomy = PlainRules(cap=8_192, window_ms=rules.window_ms, rate=rules.rate)
    changes = _without_likeness(make_changes(120, seed=seed, users=1, items=40))
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        found = []
        for folder in (first, second):
            store = open_store(Path(folder), roomy)
            store.apply(0, len(changes) - 1, [_at(change, offset) for offset, change in enumerate(changes)])
            found.append(
                [(event[0], event[1], event[2], event[4], event[7]) for event in summaries(store.read("user0"))]
            )
            store.close()
            rng.shuffle(changes)
        assert found[0] == found[1]


def samples_of(store: SequenceStore) -> list[tuple[int, int, str, int, int]]:
    return [
        (key.position, key.n, item.user_id, item.since, item.num_records)
        for key, item in store.outbox(100_000)
        if isinstance(item, SampleRef)
    ]


def _without_likeness(changes: list[Change]) -> list[Change]:
    """Without records that share time, item and type with another of another content: of those the first one stays."""
    told: dict[tuple[int, str, int], object] = {}
    kept: list[Change] = []
    for change in changes:
        if not isinstance(change, Exposed | Acted):
            continue
        items = change.item_ids if isinstance(change, Exposed) else [change.item_id]
        content = _at(change, 0)
        keys = [(change.ts_ms, item, change.action) for item in items]
        if len(set(keys)) == len(keys) and all(told.setdefault(key, content) == content for key in keys):
            kept.append(change)
    return kept


def _at(change: Change, offset: int) -> Change:
    names = [name for name in change.__struct_fields__ if name != "offset"]
    return type(change)(offset=offset, **{name: getattr(change, name) for name in names})
