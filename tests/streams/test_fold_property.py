"""The store held against the plain fold on random logs: duplicates, lateness, windows, caps, ticks, cuts, restarts."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from storage.sample_body import NEW_ACTION, NEW_EXPOSURE, NEW_LATE_ACTION
from storage.store_settings import StoreSettings
from streams.events import Action, Event, Impression
from streams.samples import Sample
from tests.streams.made_logs import (
    ACTIONS,
    CUTS,
    FORGETFUL_LOGS,
    LOGS,
    Cut,
    arrived,
    long_log,
    plain_outcome,
    plain_rows,
    settings_of,
    stored_outcome,
    stored_rows,
    stores_in,
)

LAST = 5
"""Events of context in the samples here."""
InFolder = Callable[[StoreSettings], StoreSettings]
examples = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
few_examples = settings(examples, max_examples=60)


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> InFolder:
    """Gives settings a folder of their own."""
    made: InFolder = stores_in(tmp_path_factory.mktemp("stores"))
    return made


@examples
@given(chosen=settings_of(), events=LOGS, cuts=CUTS)
def test_the_store_and_the_plain_fold_agree_however_the_log_is_cut(
    in_folder: InFolder, chosen: StoreSettings, events: list[Event], cuts: list[Cut]
) -> None:
    """`verify` would report faults that are none, or, where both are wrong alike, none at all."""
    assert_same(in_folder(chosen), events, cuts)


@examples
@given(chosen=settings_of(), events=FORGETFUL_LOGS, cuts=CUTS)
def test_they_agree_on_logs_that_have_users_forgotten(
    in_folder: InFolder, chosen: StoreSettings, events: list[Event], cuts: list[Cut]
) -> None:
    """Something of a user would be left, or something of another would go."""
    assert_same(in_folder(chosen), events, cuts)


@pytest.mark.parametrize(
    ("seed", "cap", "rate", "forgets"),
    [(1, 2_048, 1.0, 0), (2, 60, 1.0, 0), (3, 200, 0.3, 0), (4, 60, 1.0, 0.004), (5, 2_048, 1.0, 0.001)],
)
def test_they_agree_on_logs_that_fill_blocks_and_caps(
    in_folder: InFolder, seed: int, cap: int, rate: float, forgets: float
) -> None:
    """What is merged, trimmed and read in part is more than a short log leads to."""
    chosen = StoreSettings(
        actions=ACTIONS,
        cap=cap,
        sample_every=5,
        sample_exposures=40,
        attribution_seconds=600,
        label_delay_seconds=120,
        session_gap_seconds=30,
        exposure_rate=rate,
    )
    rng = Random(seed)
    ends = sorted(rng.sample(range(1, 1_500), 150))
    cuts = [Cut(end, restart=rng.random() < 0.03, send=rng.random() < 0.2) for end in ends]
    assert_same(in_folder(chosen), long_log(seed, 1_500, forgets=forgets), cuts)


def assert_same(chosen: StoreSettings, events: list[Event], cuts: list[Cut]) -> None:
    """All samples, sequences, features, counters and timers are what the plain fold says."""
    partition, expected = plain_outcome(chosen, events, LAST)
    store, found = stored_outcome(chosen, events, cuts, LAST)
    try:
        assert found.samples == arrived(expected, events, cuts)
        assert (found.duplicates, found.too_late) == (expected.duplicates, expected.too_late)
        assert (store.watermark_ms, store.num_timers) == (partition.watermark_ms, partition.num_timers)
        for user_id, user in partition.users.items():
            whole, sequence = store.read(user_id), user.sequence(partition.rules)[0]
            assert stored_rows(whole) == plain_rows(sequence)
            assert whole.groups.tolist() == [event.row.position for event in sequence]
            assert whole.acted.tolist() == [event.acted for event in sequence]
            assert whole.last.tolist() == [event.last for event in sequence]
            assert stored_rows(store.read(user_id, last=2)) == plain_rows(sequence)[-2:]
            told = sorted((each.ts_ms, each.position, each.name, each.value) for each in user.updates)
            assert [(each.ts_ms, each.position, each.name, each.value) for each in store.updates(user_id)] == told
            assert store.features(user_id) == {name: value for _, _, name, value in told}
        assert set(store.users()) == {user_id for user_id, user in partition.users.items() if user.num_records}
    finally:
        store.close()


@few_examples
@given(chosen=settings_of(trims=False), events=LOGS, order=st.randoms(use_true_random=False), cuts=CUTS)
def test_the_order_of_arrival_makes_no_difference_to_a_sequence(
    in_folder: InFolder, chosen: StoreSettings, events: list[Event], order: Random, cuts: list[Cut]
) -> None:
    """Two producers that race would make two different users of one."""
    distinct = without_twins(events)
    shuffled = list(distinct)
    order.shuffle(shuffled)
    partition = plain_outcome(chosen, distinct, LAST)[0]
    store = stored_outcome(in_folder(chosen), shuffled, cuts, LAST)[0]
    try:
        for user_id, user in partition.users.items():
            assert stored_rows(store.read(user_id)) == plain_rows(user.sequence(partition.rules)[0])
    finally:
        store.close()


def without_twins(events: list[Event]) -> list[Event]:
    """Of records that are equal in time, item and action, or in id, the first: which of them stays is up to arrival."""
    seen: set[object] = set()
    kept = []
    for event in events:
        items = event.items if isinstance(event, Impression) else [getattr(event, "item_id", "")]
        keys = {(getattr(event, "user_id", ""), event.ts_ms, item, getattr(event, "action", "")) for item in items}
        ids: set[object] = {(getattr(event, "user_id", ""), event.event_id)} if event.event_id else set()
        if len(keys) == len(items) and not seen & (keys | ids):
            kept.append(event)
            seen |= keys | ids
    return kept


@few_examples
@given(chosen=settings_of(trims=False), events=LOGS, cuts=CUTS, in_time=st.booleans())
def test_each_record_and_each_exposure_is_learned_once(
    in_folder: InFolder, chosen: StoreSettings, events: list[Event], cuts: list[Cut], in_time: bool
) -> None:
    """What no sample brings is never learned; what two bring counts double."""
    chosen = replace(chosen, exposure_rate=1.0)
    events = sorted(events, key=lambda event: event.ts_ms) if in_time else events
    partition = plain_outcome(chosen, events, LAST)[0]
    store, found = stored_outcome(in_folder(chosen), events, cuts, LAST)
    store.close()
    assert [(each.trigger_offset, each.n) for each in found.samples] == sorted(
        {(each.trigger_offset, each.n) for each in found.samples}
    )
    for user_id, user in partition.users.items():
        samples = [each for each in found.samples if isinstance(each, Sample) and each.user_id == user_id]
        assert [sample.since for sample in samples] == [-1, *(sample.trigger_offset for sample in samples)][:-1]
        assert sum(sample.num_records for sample in samples) + user.pending_records == len(user.rows)
        assert all(sample.num_records == len(sample.kafka_ms) for sample in samples)
        due = samples[-1].trigger_offset if samples else -1
        sequence = user.sequence(partition.rules)[0]
        exposures = Counter((e.row.position, e.row.item_id) for e in sequence if e.shown and e.row.position <= due)
        assert new_events(samples, NEW_EXPOSURE) == exposures
        if in_time and not overtakes(events):
            acted = Counter((e.row.position, e.row.item_id) for e in sequence if 0 <= e.acted <= due)
            assert new_events(samples, NEW_ACTION) == acted


@few_examples
@given(chosen=settings_of(trims=False), events=LOGS, cuts=CUTS)
def test_an_action_is_late_where_an_earlier_sample_had_its_exposure_without_one(
    in_folder: InFolder, chosen: StoreSettings, events: list[Event], cuts: list[Cut]
) -> None:
    """A negative would be taken back that was not learned, or one that was learned would stay."""
    events = [without_request(event) for event in sorted(events, key=lambda event: event.ts_ms)]
    store, found = stored_outcome(in_folder(chosen), events, cuts, LAST)
    store.close()
    bare: set[tuple[str, int, str]] = set()
    for sample in found.samples:
        assert isinstance(sample, Sample)
        for group, item_id, bits in zip(sample.groups, sample.item_ids, sample.new, strict=True):
            place = (sample.user_id, group, item_id)
            if bits & NEW_ACTION:
                assert bool(bits & NEW_LATE_ACTION) == (place in bare)
            if bits == NEW_EXPOSURE:
                bare.add(place)


def without_request(event: Event) -> Event:
    """The event as of no request, so that no action overtakes its impression."""
    return structs.replace(event, request_id=None) if isinstance(event, Impression | Action) else event


def overtakes(events: list[Event]) -> bool:
    """Whether an action names an impression that comes later: until then it may count for another exposure."""
    named: set[str | None] = set()
    for event in events:
        if isinstance(event, Action):
            named.add(event.request_id)
        elif isinstance(event, Impression) and event.request_id and event.request_id in named:
            return True
    return False


def new_events(samples: list[Sample], bit: int) -> Counter[tuple[int, str]]:
    """How often each (group, item) is new in some samples."""
    return Counter(
        (group, item_id)
        for sample in samples
        for group, item_id, bits in zip(sample.groups, sample.item_ids, sample.new, strict=True)
        if bits & bit
    )
