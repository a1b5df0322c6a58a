"""Stores, topics and a learner that outlives them: whatever is made anew, each sample is learned once."""

from pathlib import Path

import pytest

from storage.changes import Acted, Change, SampleRef
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.samples import Sample, decode_sample
from streams.sampling import build_samples
from tests.streams.learner_bench import Bench, BenchFactory
from tests.streams.made_samples import SampleLog


def apply(folder: Path, topic_id: str, num_records: int) -> SequenceStore:
    """The store of a partition of which each record makes a sample due, with so many records of the log applied."""
    settings = StoreSettings(folder=folder, actions=("like", "dislike"), sample_every=1)
    store = SequenceStore.open(settings, topic="events", partition=0, num_partitions=1, topic_id=topic_id)
    changes: list[Change] = [
        Acted(
            offset=offset,
            user_id=f"u{offset % 5}",
            ts_ms=1_000 * offset,
            kafka_ms=offset,
            item_id=f"{topic_id}-{offset % 12}",
            action=offset % 2,
        )
        for offset in range(num_records)
    ]
    store.apply(0, num_records - 1, changes)
    return store


def due(store: SequenceStore) -> list[Sample]:
    """What the outbox of a store holds, not acknowledged; the store is closed."""
    items = [(key, item) for key, item in store.outbox(1_000) if isinstance(item, SampleRef)]
    samples = [decode_sample(build_samples(store, [item], 20)[0]) for item in items]
    store.close()
    return samples


def learn(bench: Bench, samples: list[Sample]) -> tuple[float, float]:
    """(samples learned, duplicates dropped) of a learner that goes on with these in its topic."""
    bench.log.send(samples)
    metrics = bench.run().metrics
    return metrics.samples._value.get(), metrics.duplicates._value.get()


@pytest.mark.parametrize("former_epochs", [0, 1, 2])
def test_a_store_made_from_nothing_over_a_topic_made_anew_loses_nothing(
    bench_factory: BenchFactory, tmp_path: Path, former_epochs: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It begins at epoch 0 and offset 0, below every mark: all its samples would be dropped as duplicates."""
    bench = bench_factory(SampleLog(1))
    for epoch in range(former_epochs):
        due(apply(tmp_path / "old", f"before-{epoch}", 3))
    former = [sample for sample in due(apply(tmp_path / "old", "former", 40)) if sample.topic_id == "former"]
    assert {sample.epoch for sample in former} == {former_epochs}
    assert learn(bench, former) == (40, 0)
    present = due(apply(tmp_path / "new", "present", 30))
    assert {sample.epoch for sample in present} == {0}
    assert learn(bench, present) == (30, 0)
    assert caplog.text.count("samples of partition 0 are of another log now: topic id present") == 1
    ranges = bench.ranges()
    for number in range(5):
        found = ranges.of(f"u{number}", "present")
        assert (found["records"], found["gaps"], found["overlaps"]) == (6, 0, 0)


def test_what_a_store_sends_of_a_former_log_is_learned_once(bench_factory: BenchFactory, tmp_path: Path) -> None:
    """Samples that had arrived before the topic was made anew would come again as new ones of the present log."""
    bench = bench_factory(SampleLog(1))
    assert learn(bench, due(apply(tmp_path, "former", 40))[:25]) == (25, 0)
    samples = due(apply(tmp_path, "present", 30))
    assert [sample.topic_id for sample in samples] == ["former"] * 40 + ["present"] * 30
    assert learn(bench, samples) == (45, 25)


def test_a_partition_that_moves_between_stores_of_two_epochs_is_learned_once(
    bench_factory: BenchFactory, tmp_path: Path
) -> None:
    """Workers with disks of their own, of which one saw the former log: its ids would pass over all of the other."""
    bench = bench_factory(SampleLog(1))
    assert learn(bench, due(apply(tmp_path / "first", "former", 10))) == (10, 0)
    assert learn(bench, due(apply(tmp_path / "second", "present", 20))) == (20, 0)
    with_former = due(apply(tmp_path / "first", "present", 30))
    assert learn(bench, with_former) == (10, 30)
    assert learn(bench, due(apply(tmp_path / "second", "present", 40))) == (10, 30)
