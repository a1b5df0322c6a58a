"""A learner on a bench: records from a list, a clock that only polls move, deaths where a test wants them."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

import numpy as np

from model.settings import LearnSettings, ModelSettings
from storage.errors import SnapshotError
from storage.manifest import Manifest
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.batch import MicroBatch
from streams.items import Item, Withdrawn
from streams.learned import LearnedRanges
from streams.learned_model import LearnedModel
from streams.learner import Learner
from streams.learner_metrics import LearnerMetrics
from streams.learner_settings import LearnerSettings
from streams.log_reader import Topics
from streams.rank_log import RankLog
from streams.samples import Sample
from tests.streams.made_samples import CATALOGUE, LOG_ID, TOPIC, LogConsumer, SampleLog, make_samples

MODEL = ModelSettings(actions=("like", "dislike"), dim=16, window=32, num_layers=1, content_rows=64)
LEARN = LearnSettings(batch_events=8, replay_events=20, device="cpu")
TOPICS = Topics(TOPIC, CATALOGUE)
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
        self.publish_steps = 0
        self.rehearse_seconds = 0.0
        self.staleness_every = 3
        self.ranks: Path | None = None
        self.num_records = 3
        self.missing_samples: Literal["stop", "skip"] = "stop"

    def learner(self, *, topic_id: str = "t1", catalogue_id: str = "c1", model: ModelSettings = MODEL) -> Learner:
        """A learner that goes on from the newest version and stops at the log's end."""
        opened = LearnedModel.open(self.store, model, LEARN, {TOPIC: topic_id, CATALOGUE: catalogue_id})
        if self.ranks is not None:
            opened.rank_log = RankLog(self.ranks, opened.num_events)
        settings = LearnerSettings(
            publish_seconds=VERSION_SECONDS,
            publish_steps=self.publish_steps,
            linger_seconds=self.linger_seconds,
            rehearse_seconds=self.rehearse_seconds,
            missing_samples=self.missing_samples,
            staleness_every=self.staleness_every,
        )
        consumer = LogConsumer(self.log, num_records=self.num_records)
        learner = Learner(settings, opened, consumer, TOPICS, LearnerMetrics())
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
        return newest_manifest(self.store)

    def arrays(self) -> dict[str, np.ndarray]:
        return newest_arrays(self.store)

    def ranges(self) -> LearnedRanges:
        return LearnedRanges.restore(self.arrays())


BenchFactory = Callable[..., Bench]


def the_log(num: int = 100) -> SampleLog:
    """A log in which a worker sent some samples again after it was restored, and news of the catalogue in between."""
    samples = make_samples(num)
    log = SampleLog().send(samples[: num // 2])
    log.describe(500, *(Item(item_id=f"i{item}", categories=(f"c{item % 3}",)) for item in range(10)))
    log.describe(20_500, Item(item_id="i3", available=False), Item(item_id="i4", forgotten=True))
    log.describe(60_500, Item(item_id="i3", author="ada"), Withdrawn("i5"))
    log.send(samples[num // 4 : num // 2])
    return log.send(samples[num // 2 :])


def newest_manifest(store: SnapshotStore) -> Manifest:
    """The manifest of the newest version."""
    pointer = store.latest()
    assert pointer is not None
    return store.manifest(pointer.run_id, pointer.version, pointer.manifest_sha256)


def newest_arrays(store: SnapshotStore) -> dict[str, np.ndarray]:
    """All arrays of the newest version."""
    manifest = newest_manifest(store)
    return store.load(manifest, "model") | store.load(manifest, "trainer")


def assert_same_end(store: SnapshotStore, other: SnapshotStore) -> None:
    """Weights, optimizer, meter, ranges, marks and offsets of both newest versions are equal, bit for bit."""
    arrays, others = newest_arrays(store), newest_arrays(other)
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name, strict=True)
    manifest, expected = newest_manifest(store), newest_manifest(other)
    assert manifest.offsets == expected.offsets
    assert manifest.sample_marks == expected.sample_marks
    assert (manifest.step, manifest.event_time_ms) == (expected.step, expected.event_time_ms)


def assert_chain_is_whole(bench: Bench, samples: list[Sample]) -> None:
    """Each user's records were learned once, without gap and overlap."""
    ranges = bench.ranges()
    for user_id in {sample.user_id for sample in samples}:
        records = sum(sample.num_records for sample in samples if sample.user_id == user_id)
        found = ranges.of(user_id, LOG_ID)
        assert (found["records"], found["gaps"], found["overlaps"]) == (records, 0, 0)


def kill_after_step(learner: Learner, step: int) -> None:
    """Let the process die right after the weights took the step, before anything else did."""
    learn = learner.model.learn

    def learn_and_die(batch: MicroBatch) -> None:
        learn(batch)
        if learner.model.learner.num_steps >= step:
            raise Killed

    learner.model.learn = learn_and_die  # type: ignore[method-assign]  # that is where the process dies
