"""A learner that dies at any moment ends as one that never died."""

from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import SnapshotExistsError
from storage.manifest import SampleMark
from storage.snapshot_store import SnapshotStore
from streams.learned import LearnedRanges
from streams.learner import Learner
from streams.rank_log import ENTRY
from streams.samples import Sample, decode_sample
from tests.streams.learner_bench import (
    WHOLE_LOG,
    BenchFactory,
    Clock,
    Killed,
    assert_chain_is_whole,
    assert_same_end,
    kill_after_step,
    the_log,
)
from tests.streams.made_samples import LOG_ID, TOPIC, SampleLog, make_samples


def test_every_sample_is_learned_once_though_some_come_twice(bench_factory: BenchFactory) -> None:
    """Duplicates after a worker's restore would be learned twice, or drop what follows them."""
    samples = make_samples(100)
    bench = bench_factory(the_log())
    learner = bench.run()
    assert_chain_is_whole(bench, samples)
    assert learner.model.num_events == 100
    assert learner.metrics.samples._value.get() == 100
    assert learner.metrics.duplicates._value.get() == 25
    assert learner.metrics.events._value.get() == 100


def test_a_version_is_of_one_instant(bench_factory: BenchFactory) -> None:
    """Marks or offsets ahead of the weights would lose samples at a restart; behind them, learn them twice."""
    bench = bench_factory(the_log())
    learner = bench.run()
    versions = bench.store.versions(learner.model.run_id)
    assert len(versions) >= 4
    for version in versions:
        manifest = bench.store.manifest(learner.model.run_id, version)
        trainer = bench.store.load(manifest, "trainer")
        ranges = LearnedRanges.restore(trainer)
        read = {
            int(number): [sample for sample in bench.log.partitions[int(number)][:offset] if sample is not None]
            for number, offset in manifest.offsets[f"{TOPIC}@t1"].items()
        }
        taken = _distinct(read)
        assert manifest.sample_marks == _marks(taken)
        assert int(trainer["learner.counters"][0]) == len(taken)
        assert sum(ranges.of(f"u{user}", LOG_ID)["records"] for user in range(5)) == 2 * len(taken)
        assert manifest.event_time_ms == max(sample.ts_ms[-1] for sample in taken)


def _distinct(read: dict[int, list[bytes]]) -> list[Sample]:
    by_id = {(s.partition, s.trigger_offset): s for values in read.values() for s in map(decode_sample, values)}
    return list(by_id.values())


def _marks(samples: list[Sample]) -> dict[str, SampleMark]:
    newest: dict[int, int] = {}
    for sample in samples:
        newest[sample.partition] = max(newest.get(sample.partition, -1), sample.trigger_offset)
    return {
        str(number): SampleMark(topic_id=LOG_ID, epoch=0, trigger_offset=offset, n=0)
        for number, offset in newest.items()
    }


def test_what_versions_learned_first_adds_up_to_all_records(bench_factory: BenchFactory) -> None:
    """Freshness would be measured on records that no version, or more than one, claims."""
    bench = bench_factory(the_log())
    learner = bench.run()
    counted = [
        (ms, count)
        for version in bench.store.versions(learner.model.run_id)
        for ms, count in bench.store.manifest(learner.model.run_id, version).learned_kafka_ms
    ]
    assert sorted(counted) == sorted((ms, 1) for sample in make_samples(100) for ms in sample.kafka_ms)
    for version in bench.store.versions(learner.model.run_id):
        manifest = bench.store.manifest(learner.model.run_id, version)
        assert sum(num_pairs for *_, num_pairs in manifest.learned_times) == len(manifest.learned_kafka_ms)
        # The log's records are of time 0, the clock stands at 10**9 s.
        assert {times[:3] for times in manifest.learned_times} == {(0, 10**12, 10**12)}


@pytest.mark.parametrize("num_records", [3, 5, WHOLE_LOG])
@pytest.mark.parametrize("step", range(1, 14))
def test_a_learner_killed_after_any_step_ends_as_one_that_never_died(
    bench_factory: BenchFactory, step: int, num_records: int
) -> None:
    """A restart would learn from other weights, in other micro-batches, or in another order.

    Neither what a poll brings nor when versions are cut has a say: both differ from those of the unbroken run.
    """
    unbroken, bench = bench_factory(the_log()), bench_factory(the_log())
    bench.num_records = num_records
    killed = bench.learner()
    kill_after_step(killed, step)
    with pytest.raises(Killed):
        killed.run()
    bench.num_records = 4
    again = bench.run()
    unbroken.run()
    assert again.model.learner.num_steps >= 13
    assert len(bench.store.versions(again.model.run_id)) >= 3
    assert_same_end(bench.store, unbroken.store)
    assert_chain_is_whole(bench, make_samples(100))


def test_a_learner_killed_at_every_poll_in_turn_ends_as_one_that_never_died(bench_factory: BenchFactory) -> None:
    """State that survives in memory alone would show after the second death, not the first."""
    unbroken, bench = bench_factory(the_log()), bench_factory(the_log())
    unbroken.run()
    deaths = 0
    for polls in (2, 3, 6, 5, 9):
        learner = bench.learner()
        learner.consumer.on_poll = partial(_die_at, bench.clock, polls)
        with pytest.raises(Killed):
            learner.run()
        deaths += 1
    bench.run()
    assert deaths == 5
    assert_same_end(bench.store, unbroken.store)
    assert_chain_is_whole(bench, make_samples(100))


def _die_at(clock: Clock, polls: int, number: int) -> None:
    clock.tick(number)
    if number == polls:
        raise Killed


def test_micro_batches_cut_by_the_clock_change_weights_but_lose_nothing(bench_factory: BenchFactory) -> None:
    """The promise of equal weights ends where the learner is level with the log; that of whole chains must not."""
    samples = make_samples(100)
    bench = bench_factory(SampleLog().send(samples[:10]))
    bench.linger_seconds = 0.0
    portions = iter([samples[start : start + 10] for start in range(10, 100, 10)])

    def learner() -> Learner:
        """One that finds ten samples more each time it has looked twice at the end."""
        made = bench.learner()
        stop, looks = made.consumer.at_end, count()

        def send_more() -> None:
            portion = next(portions, None) if next(looks) % 2 else []
            stop() if portion is None else bench.log.send(portion)

        made.consumer.at_end = send_more
        return made

    killed = learner()
    kill_after_step(killed, 6)
    with pytest.raises(Killed):
        killed.run()
    again = learner()
    again.run()
    assert again.model.num_events == 100
    assert again.model.learner.num_steps > 14
    assert_chain_is_whole(bench, samples)


def test_versions_cut_by_steps_are_alike(bench_factory: BenchFactory) -> None:
    """Two learners of one log could be compared at their ends alone."""
    one, other = bench_factory(the_log()), bench_factory(the_log())
    one.publish_steps = other.publish_steps = 5
    other.num_records = WHOLE_LOG
    first, second = one.run(), other.run()
    steps = [
        [bench.store.manifest(run.model.run_id, version).step for version in bench.store.versions(run.model.run_id)]
        for bench, run in ((one, first), (other, second))
    ]
    assert steps == [[5, 10, 13], [5, 10, 13]]


def test_the_log_of_ranks_goes_back_with_the_learner(bench_factory: BenchFactory, tmp_path: Path) -> None:
    """Targets between the last version and a death would be in it twice, or with a hole."""
    unbroken, bench = bench_factory(the_log()), bench_factory(the_log())
    unbroken.ranks, bench.ranks = tmp_path / "unbroken", tmp_path / "folder" / "killed"
    killed = bench.learner()
    kill_after_step(killed, 9)
    with pytest.raises(Killed):
        killed.run()
    with bench.ranks.open("ab") as file:
        file.write(b"torn")
    for learner in (killed, bench.run(), unbroken.run()):
        assert learner.model.rank_log is not None
        learner.model.rank_log.close()
    entries = np.fromfile(bench.ranks, ENTRY)
    assert entries["event"].tolist() == list(range(100))
    assert np.isfinite(entries["rank"]).any()
    assert bench.ranks.read_bytes() == unbroken.ranks.read_bytes()


def test_a_publish_that_died_before_the_pointer_is_survived(
    bench_factory: BenchFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of the lost version is taken: publishing it again would be refused for ever."""
    unbroken, bench = bench_factory(the_log()), bench_factory(the_log())
    unbroken.run()
    point = SnapshotStore._point

    def die(store: SnapshotStore, draft: Any, sha256: str) -> None:
        if draft.version == 2:
            raise Killed
        point(store, draft, sha256)

    with monkeypatch.context() as patched:
        patched.setattr(SnapshotStore, "_point", die)
        with pytest.raises(Killed):
            bench.run()
    assert bench.newest().version == 1
    again = bench.run()
    assert bench.newest().version > unbroken.newest().version
    assert 2 in bench.store.versions(again.model.run_id)
    assert_same_end(bench.store, unbroken.store)


def test_a_publish_that_died_before_the_manifest_leaves_no_version(
    bench_factory: BenchFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files without a manifest would be taken for a version, or their number be lost."""
    unbroken, bench = bench_factory(the_log()), bench_factory(the_log())
    unbroken.run()

    def die(objects: Any, path: str, value: bytes) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("storage.objects.Objects.create", die)
        with pytest.raises(Killed):
            bench.run()
    assert bench.store.latest() is None
    bench.run()
    assert bench.newest().version == unbroken.newest().version
    assert_same_end(bench.store, unbroken.store)


def test_a_second_trainer_of_a_run_is_refused(bench_factory: BenchFactory) -> None:
    """Two trainers would overwrite each other's versions by turns."""
    bench = bench_factory(the_log(40))
    bench.run()
    bench.log.send(make_samples(100)[40:])
    first, second = bench.learner(), bench.learner()
    first.run()
    with pytest.raises(SnapshotExistsError, match="already in"):
        second.run()
    assert_chain_is_whole(bench, make_samples(100))
