from pathlib import Path

from storage.changes import Acted, Change, Exposed, SampleRef
from storage.entries import pack_position
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.samples import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION, Sample
from streams.sampling import build_sample, build_samples


def _store(folder: Path, every: int, changes: list[Change]) -> SequenceStore:
    settings = StoreSettings(folder=folder, actions=("click", "like"), sample_every=every)
    store = SequenceStore.open(settings, topic="events", partition=2, num_partitions=4, topic_id="t")
    for change in changes:
        store.apply(change.offset, change.offset, [change])
    return store


def _shown(offset: int, items: list[str], ts_ms: int) -> Exposed:
    return Exposed(offset=offset, user_id="u", ts_ms=ts_ms, kafka_ms=1000 + offset, item_ids=items, request_id=None)


def _acted(offset: int, item_id: str, ts_ms: int, action: int = 0, value: float | None = None) -> Acted:
    return Acted(
        offset=offset,
        user_id="u",
        ts_ms=ts_ms,
        kafka_ms=1000 + offset,
        item_id=item_id,
        action=action,
        value=value,
        request_id=None,
    )


def _samples(store: SequenceStore, last: int) -> list[Sample]:
    due = [(key, ref) for key, ref in store.outbox(100) if isinstance(ref, SampleRef)]
    together = list(build_samples(store, due, last))
    assert together == [build_sample(store, key, ref, last) for key, ref in due]
    return together


def test_each_event_is_new_once_for_what_is_new_of_it(tmp_path: Path) -> None:
    """An exposure or an action is learned twice, or never."""
    store = _store(
        tmp_path,
        1,
        [
            _shown(0, ["a", "b"], 10),
            _acted(1, "a", 11),
            _acted(2, "a", 12, action=1, value=3.0),
            _acted(3, "b", 13),
            _acted(4, "organic", 14),
        ],
    )
    first, second, third, fourth = _samples(store, 100)
    assert (first.epoch, first.partition, first.trigger_offset, first.n, first.since) == (0, 2, 1, 0, -1)
    assert first.new == [NEW_EXPOSURE | NEW_ACTION, NEW_EXPOSURE]
    assert first.kafka_ms == [1000, 1000, 1001]
    assert second.since == pack_position(0, 1)
    assert second.new == [NEW_FURTHER_ACTION, 0]
    assert (second.actions, second.values) == ([3, 0], [3.0, None])
    assert third.new == [0, NEW_ACTION]
    assert fourth.new == [0, 0, NEW_ACTION]
    assert fourth.item_ids == ["a", "b", "organic"]
    assert fourth.groups == [0, 0, 4]
    store.close()


def test_context_ends_before_new_events_do(tmp_path: Path) -> None:
    """An event that came late lies before the context and is never learned."""
    changes: list[Change] = [_acted(offset, f"i{offset}", 100 + offset) for offset in range(8)]
    store = _store(tmp_path, 1, [*changes, _acted(8, "late", 103)])
    samples = _samples(store, 3)
    assert samples[7].item_ids == ["i5", "i6", "i7"]
    assert samples[8].item_ids == ["late", "i4", "i5", "i6", "i7"]
    assert samples[8].new == [NEW_ACTION, 0, 0, 0, 0]
    store.close()


def test_a_sample_is_as_of_its_trigger(tmp_path: Path) -> None:
    """A sample built late holds what came after it, and so differs between replays."""
    store = _store(tmp_path, 2, [_acted(0, "a", 1), _acted(1, "b", 2), _acted(2, "a", 3)])
    (sample,) = _samples(store, 100)
    assert sample.item_ids == ["a", "b"]
    assert sample.num_records == 2
    store.close()
