"""Bodies of samples: what is new in them, how far back they reach, and that they are as of their trigger."""

from pathlib import Path

from storage.changes import Acted, Change, Exposed, Feature, SampleRef, Updated
from storage.entries import pack_position
from storage.sample_body import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION, NEW_LATE_ACTION
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.samples import Sample, Segment, decode_sample
from streams.sampling import build_samples


def store_factory(
    folder: Path, changes: list[Change], *, every: int = 1, rate: float = 1.0, topic_id: str = "t"
) -> SequenceStore:
    settings = StoreSettings(folder=folder, actions=("click", "like"), sample_every=every, exposure_rate=rate)
    store = SequenceStore.open(settings, topic="events", partition=2, num_partitions=4, topic_id=topic_id)
    for change in changes:
        store.apply(change.offset, change.offset, [change])
    return store


def shown(offset: int, items: list[str], ts_ms: int, request_id: str | None = None) -> Exposed:
    return Exposed(
        offset=offset, user_id="u", ts_ms=ts_ms, kafka_ms=1000 + offset, item_ids=items, request_id=request_id
    )


def acted(
    offset: int, item_id: str, ts_ms: int, action: int = 0, value: float | None = None, request_id: str | None = None
) -> Acted:
    return Acted(
        offset=offset,
        user_id="u",
        ts_ms=ts_ms,
        kafka_ms=1000 + offset,
        item_id=item_id,
        action=action,
        value=value,
        request_id=request_id,
    )


def samples_of(store: SequenceStore, last: int = 100) -> list[Sample]:
    due = [(key, ref) for key, ref in store.outbox(100) if isinstance(ref, SampleRef)]
    return [decode_sample(build_samples(store, [(key, ref)], last)[0]) for key, ref in due]


def test_each_event_is_new_once_for_what_is_new_of_it(tmp_path: Path) -> None:
    """An exposure or an action is learned twice, or never."""
    changes: list[Change] = [
        shown(0, ["a", "b"], 10),
        acted(1, "a", 11),
        acted(2, "a", 12, action=1, value=3.0),
        acted(3, "b", 13),
        acted(4, "organic", 14),
    ]
    store = store_factory(tmp_path, changes)
    first, second, third, fourth = samples_of(store)
    assert (first.epoch, first.partition, first.trigger_offset, first.n, first.since) == (0, 2, 1, 0, -1)
    assert (first.item_ids, first.ts_ms, first.actions) == (["a", "b"], [10, 10], [1, 0])
    assert first.new == [NEW_EXPOSURE | NEW_ACTION, NEW_EXPOSURE]
    assert first.kafka_ms == [1000, 1000, 1001]
    assert second.since == pack_position(0, 1)
    assert second.new == [NEW_FURTHER_ACTION, 0]
    assert second.actions == [3, 0]
    assert (second.value_places, second.value_actions, second.values) == ([0], [1], [3.0])
    assert third.new == [0, NEW_ACTION | NEW_LATE_ACTION]
    assert fourth.new == [0, 0, NEW_ACTION]
    assert fourth.item_ids == ["a", "b", "organic"]
    assert fourth.groups == [0, 0, 4]
    store.close()


def test_a_sample_bears_the_id_of_its_own_log(tmp_path: Path) -> None:
    """What was still to be sent when the topic was made anew would pass over the first samples of the new log."""
    store_factory(tmp_path, [acted(0, "x", 0), acted(1, "a", 1)]).close()
    store = store_factory(tmp_path, [acted(0, "b", 2)], topic_id="t2")
    found = [(sample.topic_id, sample.epoch, sample.trigger_offset) for sample in samples_of(store)]
    assert found == [("t", 0, 0), ("t", 0, 1), ("t2", 1, 0)]
    store.close()


def test_an_impression_that_came_after_its_action_is_new_when_it_comes(tmp_path: Path) -> None:
    """The exposure would never be learned, as its event had been learned as an action of its own."""
    store = store_factory(tmp_path, [acted(0, "a", 11), shown(1, ["a"], 10), acted(2, "b", 12)])
    first, second = samples_of(store)
    assert (first.new, first.groups, first.ts_ms) == ([NEW_ACTION], [0], [11])
    assert second.new == [NEW_EXPOSURE | NEW_FURTHER_ACTION, NEW_ACTION]
    assert (second.groups, second.ts_ms, second.num_records) == ([1, 2], [10, 12], 2)
    store.close()


def test_context_ends_before_new_events_do(tmp_path: Path) -> None:
    """An event that came late lies before the context and is never learned."""
    changes: list[Change] = [acted(offset, f"i{offset}", 100 + 10 * offset) for offset in range(8)]
    store = store_factory(tmp_path, [*changes, acted(8, "late", 135, value=2.0)])
    samples = samples_of(store, 3)
    assert samples[7].item_ids == ["i5", "i6", "i7"]
    late = samples[8]
    assert late.item_ids == ["late", "i4", "i5", "i6", "i7"]
    assert late.new == [NEW_ACTION, 0, 0, 0, 0]
    assert (late.value_places, late.values) == ([0], [2.0])
    store.close()


def test_a_sample_is_as_of_its_trigger(tmp_path: Path) -> None:
    """A sample built late holds what came after it, and so differs between replays."""
    told: list[Change] = [Updated(offset=3, user_id="u", ts_ms=0, features={"age": 9})]
    store = store_factory(tmp_path, [acted(0, "a", 1), acted(1, "b", 2), acted(2, "a", 3), *told], every=2)
    (sample,) = samples_of(store)
    assert sample.item_ids == ["a", "b"]
    assert (sample.num_records, sample.features) == (2, [])
    store.close()


def test_features_are_told_where_they_change(tmp_path: Path) -> None:
    """What the user was when an event happened would be lost, or repeated at every update."""
    told: list[tuple[int, dict[str, Feature]]] = [
        (5, {"age": 3}),
        (10, {"age": 4, "city": "Oslo"}),
        (20, {"age": 4}),
        (30, {"age": 5}),
        (40, {"age": 6}),
    ]
    updates: list[Change] = [
        Updated(offset=offset, user_id="u", ts_ms=ts_ms, features=features)
        for offset, (ts_ms, features) in enumerate(told)
    ]
    store = store_factory(tmp_path, [*updates, acted(5, "a", 15), acted(6, "b", 30)], every=2)
    (sample,) = samples_of(store)
    assert sample.features == [
        Segment(10, 0, "age", 4),
        Segment(10, 0, "city", "Oslo"),
        Segment(30, 1, "age", 5),
        Segment(40, 2, "age", 6),
    ]
    store.close()


def test_a_sample_says_at_which_rate_exposures_were_left_out(tmp_path: Path) -> None:
    """The learner would take the odds among few exposures for those among all."""
    store = store_factory(tmp_path, [shown(0, [f"i{place}" for place in range(99)], 5), acted(1, "i7", 6)], rate=0.25)
    (sample,) = samples_of(store)
    assert sample.exposure_rate == 0.25
    assert (len(sample.item_ids) < 60, "i7" in sample.item_ids, sample.num_records) == (True, True, 100)
    store.close()


def test_of_exposures_that_were_left_out_no_action_is_late(tmp_path: Path) -> None:
    """A negative that was never learned would be taken back."""
    items = [f"i{place}" for place in range(40)]
    log: list[Change] = [shown(0, items, 5), acted(1, "organic", 6), *(acted(2 + at, items[at], 7) for at in range(40))]
    store = store_factory(tmp_path, log, rate=0.5)
    first, *others = samples_of(store)
    there = {item_id for item_id, bits in zip(first.item_ids, first.new, strict=True) if bits == NEW_EXPOSURE}
    assert 10 < len(there) < 30
    for item_id, sample in zip(items, others, strict=True):
        bits = sample.new[sample.item_ids.index(item_id)]
        assert bits == (NEW_ACTION | NEW_LATE_ACTION if item_id in there else NEW_ACTION)
    store.close()
