"""The learner process's loop: nothing learned twice, nothing lost, the same weights however often it dies."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.settings import LearnSettings, ModelSettings
from storage.errors import SnapshotError, SnapshotExistsError
from storage.manifest import Manifest, SampleMark
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.batch import MicroBatch
from streams.learned import LearnedRanges
from streams.learned_model import LearnedModel
from streams.learner import Learner
from streams.learner_metrics import LearnerMetrics
from streams.learner_settings import LearnerSettings
from streams.samples import Sample, decode_sample
from tests.streams.made_samples import TOPIC, LogConsumer, SampleLog, make_samples, sample_factory

MODEL = ModelSettings(actions=("like", "dislike"), dim=16, window=32, num_layers=1, initial_capacity=8)
LEARN = LearnSettings(batch_events=8, replay_sequences=1, device="cpu")
VERSION_SECONDS = 4
"""Time between two versions, by a clock of which a poll (or a step, where one poll brings all) takes a second."""
WHOLE_LOG = 1_000
"""Records of each partition that a poll brings where it is to bring all there are."""


class Killed(BaseException):
    """What stands for SIGKILL: nothing catches it."""


class SameThread:
    """Writes versions at once, so that a test's versions are always cut at the same records."""

    def submit(self, write: Callable[[], Manifest]) -> Future[Manifest]:
        future: Future[Manifest] = Future()
        try:
            future.set_result(write())
        except SnapshotError as error:
            future.set_exception(error)
        return future

    def shutdown(self) -> None:
        pass


class Clock:
    """Stands still but for polls."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9

    def tick(self, number: int) -> None:
        self.now += 1.0


class Bench:
    """Learners over one log and one store."""

    def __init__(self, folder: Path, log: SampleLog, clock: Clock) -> None:
        self.store = SnapshotStore(SnapshotSettings(url=str(folder), keep=1_000))
        self.log = log
        self.clock = clock
        self.linger_seconds = 1e9
        self.num_records = 3

    def learner(self, *, topic_id: str = "t1", model: ModelSettings = MODEL) -> Learner:
        """A learner that goes on from the newest version and stops at the log's end."""
        opened = LearnedModel.open(self.store, model, LEARN, topic=TOPIC, topic_id=topic_id)
        settings = LearnerSettings(publish_seconds=VERSION_SECONDS, linger_seconds=self.linger_seconds)
        consumer = LogConsumer(self.log, num_records=self.num_records)
        learner = Learner(settings, opened, consumer, TOPIC, LearnerMetrics())
        learner._publisher.shutdown()
        learner._publisher = SameThread()  # type: ignore[assignment]  # the two methods that are called
        if self.num_records == WHOLE_LOG:
            self._tick_by_steps(learner)
        else:
            consumer.on_poll = self.clock.tick
        consumer.at_end = learner.stopping.set
        return learner

    def _tick_by_steps(self, learner: Learner) -> None:
        learn = learner.model.learn

        def learn_for_a_second(batch: MicroBatch) -> None:
            learn(batch)
            self.clock.tick(0)

        learner.model.learn = learn_for_a_second  # type: ignore[method-assign]  # it takes time

    def run(self, **options: Any) -> Learner:
        """Learn the log to its end."""
        learner = self.learner(**options)
        learner.run()
        return learner

    def newest(self) -> Manifest:
        pointer = self.store.latest()
        assert pointer is not None
        return self.store.manifest(pointer.run_id, pointer.version, pointer.manifest_sha256)

    def arrays(self) -> dict[str, np.ndarray]:
        manifest = self.newest()
        return self.store.load(manifest, "model") | self.store.load(manifest, "trainer")

    def ranges(self) -> LearnedRanges:
        return LearnedRanges.restore(self.arrays())


BenchFactory = Callable[..., Bench]


@pytest.fixture
def bench_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchFactory:
    """Makes benches, each with a store of its own."""
    clock = Clock()
    monkeypatch.setattr("streams.learner.time", clock)
    folders = (tmp_path / str(number) for number in count())
    return lambda log: Bench(next(folders), log, clock)


def the_log(num: int = 100) -> SampleLog:
    """A log in which a worker sent some samples again after it was restored."""
    samples = make_samples(num)
    log = SampleLog().send(samples[: num // 2])
    log.send(samples[num // 4 : num // 2])
    return log.send(samples[num // 2 :])


def assert_same_end(bench: Bench, other: Bench) -> None:
    """Weights, optimizer, meter, ranges, marks and offsets are equal, bit for bit."""
    arrays, others = bench.arrays(), other.arrays()
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name, strict=True)
    manifest, expected = bench.newest(), other.newest()
    assert manifest.offsets == expected.offsets
    assert manifest.sample_marks == expected.sample_marks
    assert (manifest.step, manifest.event_time_ms) == (expected.step, expected.event_time_ms)


def assert_chain_is_whole(bench: Bench, samples: list[Sample]) -> None:
    """Each user's records were learned once, without gap and overlap."""
    ranges = bench.ranges()
    for user_id in {sample.user_id for sample in samples}:
        records = sum(sample.num_records for sample in samples if sample.user_id == user_id)
        found = ranges.of(user_id)
        assert (found["records"], found["gaps"], found["overlaps"]) == (records, 0, 0)


def kill_after_step(learner: Learner, step: int) -> None:
    """Let the process die right after the weights took the step, before anything else did."""
    learn = learner.model.learn

    def learn_and_die(batch: MicroBatch) -> None:
        learn(batch)
        if learner.model.learner.num_steps >= step:
            raise Killed

    learner.model.learn = learn_and_die  # type: ignore[method-assign]  # that is where the process dies


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
        assert sum(ranges.of(f"u{user}")["records"] for user in range(5)) == 2 * len(taken)
        assert manifest.event_time_ms == max(sample.ts_ms[-1] for sample in taken)


def _distinct(read: dict[int, list[bytes]]) -> list[Sample]:
    by_id = {(s.partition, s.trigger_offset): s for values in read.values() for s in map(decode_sample, values)}
    return list(by_id.values())


def _marks(samples: list[Sample]) -> dict[str, SampleMark]:
    newest: dict[int, int] = {}
    for sample in samples:
        newest[sample.partition] = max(newest.get(sample.partition, -1), sample.trigger_offset)
    return {str(number): SampleMark(epoch=0, trigger_offset=offset, n=0) for number, offset in newest.items()}


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


@pytest.mark.parametrize("num_records", [3, WHOLE_LOG])
@pytest.mark.parametrize("step", range(1, 14))
def test_a_learner_killed_after_any_step_ends_as_one_that_never_died(
    bench_factory: BenchFactory, step: int, num_records: int
) -> None:
    """A restart would learn from other weights, in other micro-batches, or from another place in the log.

    Bit for bit it holds where versions are cut at the same records, polls bring the same ones after the cut (or all
    there are), and no micro-batch is cut short by the clock.
    """
    unbroken, bench = bench_factory(the_log()), bench_factory(the_log())
    unbroken.num_records = bench.num_records = num_records
    killed = bench.learner()
    kill_after_step(killed, step)
    with pytest.raises(Killed):
        killed.run()
    again = bench.run()
    unbroken.run()
    assert again.model.learner.num_steps >= 13
    assert len(bench.store.versions(again.model.run_id)) >= 3
    assert_same_end(bench, unbroken)
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
    assert_same_end(bench, unbroken)
    assert_chain_is_whole(bench, make_samples(100))


def _die_at(clock: Clock, polls: int, number: int) -> None:
    clock.tick(number)
    if number == polls:
        raise Killed


def test_micro_batches_cut_by_the_clock_change_weights_but_lose_nothing(bench_factory: BenchFactory) -> None:
    """The promise of equal weights ends where the clock cuts batches; that of whole chains must not."""
    bench = bench_factory(the_log())
    bench.linger_seconds = 1.0
    killed = bench.learner()
    kill_after_step(killed, 6)
    with pytest.raises(Killed):
        killed.run()
    learner = bench.run()
    assert learner.model.num_events == 100
    assert learner.model.learner.num_steps > 14
    assert_chain_is_whole(bench, make_samples(100))


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
    assert bench.newest().version == unbroken.newest().version + 1
    assert 2 in bench.store.versions(again.model.run_id)
    assert_same_end(bench, unbroken)


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
    assert_same_end(bench, unbroken)


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


def test_records_that_are_no_samples_are_counted_and_passed(bench_factory: BenchFactory) -> None:
    """One bad record would stop the learner for ever: it never gets past its offset."""
    samples = make_samples(10, num_partitions=1)
    log = SampleLog(1).send(samples[:5])
    log.partitions[0] += [None, b"", b"\xff", b"\x81\xa7user_id\xa1\xff", b'{"json": 1}']
    log.send([sample_factory(trigger_offset=10_000, ts_ms=[])])
    log.send(samples[5:])
    bench = bench_factory(log)
    learner = bench.run()
    assert learner.metrics.malformed._value.get() == 6
    assert learner.model.num_events == 10
    assert bench.newest().offsets == {f"{TOPIC}@t1": {"0": 16}}


def test_a_restart_seeks_to_the_offsets_of_the_version(bench_factory: BenchFactory) -> None:
    """It would read the whole topic again, or what is no longer kept there."""
    bench = bench_factory(the_log())
    first = bench.run()
    ends = {number: len(values) for number, values in bench.log.partitions.items()}
    second = bench.run()
    assert first.consumer.sought == ["0@beginning", "1@beginning"]
    assert second.consumer.sought == [f"{number}@{end}" for number, end in ends.items()]
    assert second.model.version == first.model.version


def test_a_topic_made_anew_is_read_from_its_beginning(bench_factory: BenchFactory) -> None:
    """Offsets of the deleted topic would skip as many samples of the new one."""
    samples = make_samples(100)
    bench = bench_factory(SampleLog().send(samples[:60]))
    bench.run()
    bench.log = SampleLog().send(samples[50:])
    learner = bench.run(topic_id="t2")
    assert learner.consumer.sought == ["0@beginning", "1@beginning"]
    assert learner.metrics.duplicates._value.get() == 10
    assert list(bench.newest().offsets) == [f"{TOPIC}@t2"]
    assert_chain_is_whole(bench, samples)


def test_samples_of_a_new_epoch_are_no_duplicates(bench_factory: BenchFactory) -> None:
    """After `events` was made anew its offsets start at 0 again, below every mark."""
    bench = bench_factory(SampleLog().send(make_samples(20)))
    bench.run()
    bench.log.send([sample_factory(epoch=1, trigger_offset=1)])
    learner = bench.run()
    assert learner.model.num_events == 21
    assert bench.newest().sample_marks["0"] == SampleMark(epoch=1, trigger_offset=1, n=0)


def test_a_sample_waits_no_longer_than_the_linger(bench_factory: BenchFactory) -> None:
    """On a quiet stream the last few events would stay unlearned until more come."""
    bench = bench_factory(SampleLog().send(make_samples(2)))
    bench.linger_seconds = 3.0
    learner = bench.learner()
    steps = []

    def note(number: int) -> None:
        bench.clock.tick(number)
        steps.append(learner.model.learner.num_steps)
        if number == 8:
            learner.stopping.set()

    learner.consumer.on_poll, learner.consumer.at_end = note, lambda: None
    learner.run()
    assert steps == [0, 0, 0, 0, 1, 1, 1, 1]


def test_nothing_is_published_while_nothing_is_new(bench_factory: BenchFactory) -> None:
    """An idle learner would fill the store with equal versions and push the good ones out."""
    bench = bench_factory(SampleLog().send(make_samples(2)))
    learner = bench.learner()

    def stop_late() -> None:
        if learner.consumer.num_polls > 40:
            learner.stopping.set()

    learner.consumer.at_end = stop_late
    learner.run()
    assert bench.newest().version == 1


def test_a_user_whose_new_event_left_the_later_sample_is_learned_first(bench_factory: BenchFactory) -> None:
    """A capped sequence drops events: joined into one row they would never be learned."""
    first = sample_factory()
    later = sample_factory(trigger_offset=3, since=1, item_ids=["i2"], ts_ms=[2_000], groups=[2], kafka_ms=[3, 4])
    bench = bench_factory(SampleLog(1).send([first, later]))
    learner = bench.run()
    assert learner.model.learner.num_steps == 2
    assert learner.model.num_events == 2


def test_the_metrics_follow_the_learner(bench_factory: BenchFactory) -> None:
    """The live table and the pace of the replay read them: they must end at what was learned and published."""
    bench = bench_factory(the_log())
    learner = bench.run()
    value = learner.metrics.registry.get_sample_value
    assert value("headwater_steps_total") == learner.model.learner.num_steps
    assert value("headwater_versions_published_total") == value("headwater_snapshot_version") == bench.newest().version
    assert value("headwater_vocabulary_rows") == 12
    assert value("headwater_unpublished_records") == 0
    assert value("headwater_learner_behind_seconds") == 0
    assert value("headwater_prequential", {"figure": "events"}) == learner.model.figures()["events"]
