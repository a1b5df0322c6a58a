"""The model as the learner process keeps it: weights, marks, learned ranges and offsets, of one instant when cut."""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import msgspec
from kafka import TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types

from model.online import OnlineLearner
from model.row_arrays import ROW_ARRAYS
from model.settings import LearnSettings, ModelSettings
from storage.entries import pack_position
from storage.errors import SetupError
from storage.manifest import Manifest, ManifestDraft, Table
from storage.snapshot_store import SnapshotStore
from streams.announcements import Announcer
from streams.batch import MicroBatch
from streams.first_learned import Times
from streams.learned import LearnedRanges
from streams.marks import SampleMarks
from streams.publish_gate import PublishGate
from streams.rank_log import RankLog
from streams.staleness import Staleness

logger = logging.getLogger(__name__)


class LearnedModel:
    """An online learner, what it has learned so far, and the store that its versions go to."""

    def __init__(self, learner: OnlineLearner, store: SnapshotStore, topic_ids: Mapping[str, str]) -> None:
        self.learner = learner
        self.store = store
        # A topic that was deleted and made anew is another log: offsets of the former say nothing of it.
        self.logs = {topic: f"{topic}@{topic_id}" for topic, topic_id in topic_ids.items()}
        self.run_id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + uuid.uuid4().hex[:6]
        self.version = 0
        self.skipped_in_a_row = 0
        self.event_time_ms = 0
        self.created_ms = 0
        self.offsets: dict[Any, int] = {}
        """Next offset by `TopicPartition`."""
        self.marks = SampleMarks()
        self.ranges = LearnedRanges()
        self.rank_log: RankLog | None = None
        """Where the rank of every target is written, too."""
        self.announcer: Announcer | None = None
        """Who tells servers of a version as soon as `latest` is moved to it."""
        self.staleness = Staleness(learner.model_settings, every=0)
        self.gate = PublishGate(store.settings.gate_sigmas)

    @classmethod
    def open(
        cls, store: SnapshotStore, model: ModelSettings, learn: LearnSettings, topic_ids: Mapping[str, str]
    ) -> "LearnedModel":
        """Go on from the newest version, or begin; `topic_ids` are those of all topics that are read.

        Raises `SetupError` where that version is of another shape.
        """
        pointer = store.latest()
        store.go_on_from(pointer)
        if pointer is None:
            return cls(OnlineLearner(model, learn), store, topic_ids)
        manifest = store.manifest(pointer.run_id, pointer.version, pointer.manifest_sha256)
        _check_config(manifest, model)
        weights, trainer = store.load(manifest, "model"), store.load(manifest, "trainer")
        opened = cls(OnlineLearner.restore(model, learn, weights, trainer), store, topic_ids)
        opened.run_id = manifest.run_id
        # A publish that died between manifest and pointer has taken the next number.
        opened.version = max(store.versions(manifest.run_id))
        opened.event_time_ms = manifest.event_time_ms
        opened.created_ms = manifest.created_ms
        opened.marks = SampleMarks(manifest.sample_marks)
        try:
            opened.ranges = LearnedRanges.restore(trainer)
        except ValueError as error:
            raise SetupError(
                f"snapshot {manifest.run_id}/v{manifest.version} cannot be gone on from: {error}; "
                "use another snapshots.url"
            ) from error
        opened.offsets = {
            TopicPartition(topic, int(number)): offset
            for topic, log in opened.logs.items()
            for number, offset in manifest.offsets.get(log, {}).items()
        }
        return opened

    def watch_staleness(self, every: int) -> None:
        """Ask the newest version about targets, too (see `Staleness`); to be called before anything is learned."""
        self.staleness = Staleness(self.learner.model_settings, every)
        if every and self.version:
            self.staleness.serve(self.learner.state()[0])

    @property
    def batch_events(self) -> int:
        """New events that a micro-batch is meant to hold."""
        return self.learner.learn_settings.batch_events

    @property
    def num_events(self) -> int:
        """New events learned so far."""
        return self.learner.num_events

    @property
    def num_steps(self) -> int:
        """Steps that the weights have taken."""
        return self.learner.num_steps

    @property
    def num_rows(self) -> int:
        """Rows of the item table."""
        return self.learner.num_items

    def learn(self, batch: MicroBatch) -> None:
        """Score, then learn, a micro-batch."""
        alarms = self.learner.heartbeat.drift.alarms
        sequences = batch.sequences()
        report = self.learner.step(sequences)
        self.staleness.count(sequences, report.targets)
        if self.rank_log is not None:
            self.rank_log.add(report.targets)
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if report.skipped else 0
        if self.learner.heartbeat.drift.alarms > alarms:
            logger.warning("drift: the hit rate has fallen, as of event %d", self.num_events)
        for sample in batch.samples:
            self.ranges.add(sample, pack_position(sample.epoch, sample.trigger_offset), sample.topic_id)
            self.event_time_ms = max(self.event_time_ms, max(sample.ts_ms, default=0))

    def forget(self, user_id: str) -> None:
        """Drop what is kept of a user; what the weights have learned stays in them."""
        self.learner.forget(user_id)
        self.ranges.forget(user_id)

    def figures(self) -> dict[str, float]:
        """Prequential figures over all that was learned, and of the last targets."""
        figures, heartbeat = self.learner.meter.figures(), self.learner.heartbeat.figures()
        recent = {
            f"{kind}_{name}_{series}": value
            for kind, by_series in (("window", heartbeat.window), ("fading", heartbeat.fading))
            for series, each in by_series.items()
            for name, value in asdict(each).items()
        }
        return {
            "events": figures.main.events,
            "hit_rate": figures.main.hit_rate,
            "ndcg": figures.main.ndcg,
            "mrr": figures.main.mrr,
            "popularity_hit_rate": figures.main.popularity_hit_rate,
            "hit_rate_last_quarter": figures.last_quarter.hit_rate,
            "popularity_hit_rate_last_quarter": figures.last_quarter.popularity_hit_rate,
            "auc": figures.auc,
            "normalized_entropy": figures.normalized_entropy,
            "non_finite": figures.non_finite,
            **recent,
            "window_auc": heartbeat.auc,
            "window_normalized_entropy": heartbeat.normalized_entropy,
            "drift_alarms": heartbeat.drift_alarms,
            **self.staleness.figures(),
        }

    def cut(
        self, offsets: Mapping[Any, int], first_learned: Mapping[Times, Mapping[int, int]]
    ) -> Callable[[], Manifest]:
        """Copy everything now; the returned call writes it and may run in another thread.

        `first_learned` are the records that no version before has learned, as `FirstLearned` tells them. A version that
        the gate objects to is written, and `latest` stays where it is. The call raises as `SnapshotStore.publish`
        does, `SnapshotExistsError` where another trainer has taken over.
        """
        self.version += 1
        self.offsets = dict(offsets)
        self.created_ms = int(time.time() * 1000)
        weights, trainer = self.learner.state()
        trainer |= self.ranges.state()
        weight = weights["items.weight"]
        draft = ManifestDraft(
            run_id=self.run_id,
            version=self.version,
            tables={
                "items": Table(rows=self.num_rows, dim=weight.shape[1], dtype=str(weight.dtype), columns=ROW_ARRAYS)
            },
            offsets=self._offsets_by_log(),
            sample_marks=self.marks.as_manifest(),
            event_time_ms=self.event_time_ms,
            created_ms=self.created_ms,
            step=self.num_steps,
            config=_as_json(self.learner.model_settings),
            metrics=self.figures(),
            learned_kafka_ms=[pair for counts in first_learned.values() for pair in sorted(counts.items())],
            learned_times=[(*times, len(counts)) for times, counts in first_learned.items()],
            cut_ms=int(time.time() * 1000),
        )

        def publish() -> Manifest:
            objection = self.gate.objection(weights, draft.metrics)
            kept = msgspec.structs.replace(draft, held_back=objection or msgspec.UNSET)
            manifest = self.store.publish({"model": weights, "trainer": trainer}, kept)
            if not objection:
                self._announce()
                self.staleness.serve(weights)
            return manifest

        return publish

    def _announce(self) -> None:
        pointer = self.store.latest()
        if self.announcer is not None and pointer is not None:
            self.announcer.announce(pointer)

    def _offsets_by_log(self) -> dict[str, dict[str, int]]:
        by_log: dict[str, dict[str, int]] = {}
        for (topic, number), offset in sorted(self.offsets.items()):
            by_log.setdefault(self.logs[topic], {})[str(number)] = offset
        return by_log


def _as_json(model: ModelSettings) -> dict[str, Any]:
    # Through JSON and back, as tuples come back from a manifest as lists.
    return dict(msgspec.json.decode(msgspec.json.encode(asdict(model))))


def _check_config(manifest: Manifest, model: ModelSettings) -> None:
    stored, wanted = manifest.config, _as_json(model)
    differing = sorted(name for name in wanted if stored.get(name) != wanted[name])
    if differing:
        told = ", ".join(f"{name} is {stored.get(name)!r} there, {wanted[name]!r} here" for name in differing)
        raise SetupError(
            f"snapshot {manifest.run_id}/v{manifest.version} has another model: {told}; "
            "use the former settings or another snapshots.url"
        )
