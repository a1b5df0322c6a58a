"""Reopening a learner from its newest version, and the process around it."""

import hashlib
import json
import signal
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kafka import TopicPartition  # type: ignore[import-untyped]  # kafka-python ships no types
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]  # kafka-python ships no types

from model.settings import LearnSettings, ModelSettings
from storage.errors import SetupError, SnapshotError
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from streams.batch import MicroBatch
from streams.kafka_settings import KafkaSettings
from streams.learned_model import LearnedModel
from streams.learner import Learner
from streams.learner_metrics import LearnerMetrics
from streams.learner_process import run_learner
from streams.learner_settings import LearnerSettings
from streams.topics import TopicDescription, TopicSettings
from tests.streams.made_samples import TOPIC, LogConsumer, SampleLog, make_samples

MODEL = ModelSettings(actions=("like", "dislike"), dim=16, window=32, num_layers=1, content_rows=64)
LEARN = LearnSettings(batch_events=8, device="cpu")


def learned_store(folder: Path) -> SnapshotStore:
    """A store with one version that has learned ten samples."""
    store = SnapshotStore(SnapshotSettings(url=str(folder)))
    opened = LearnedModel.open(store, MODEL, LEARN, {TOPIC: "t1"})
    batch = MicroBatch(0)
    for sample in make_samples(10):
        opened.marks.pass_over(sample)
        batch.add(sample)
    opened.learn(batch)
    first_learned = {(10, 20, 30): {5: 2, 3: 1}, (11, 20, 30): {3: 4}}
    opened.cut({TopicPartition(TOPIC, 1): 4, TopicPartition(TOPIC, 0): 6}, first_learned)()
    return store


def test_a_reopened_model_is_the_one_that_was_cut(tmp_path: Path) -> None:
    """Whatever is not restored makes the next step another one than it would have been."""
    store = learned_store(tmp_path)
    opened = LearnedModel.open(store, MODEL, LEARN, {TOPIC: "t1"})
    assert (opened.version, opened.num_events, opened.num_rows) == (1, 10, len(_items()))
    assert opened.offsets == {TopicPartition(TOPIC, 0): 6, TopicPartition(TOPIC, 1): 4}
    assert opened.event_time_ms == 9_000
    pointer = store.latest()
    assert pointer is not None
    manifest = store.manifest(pointer.run_id, 1)
    assert opened.run_id == manifest.run_id
    assert opened.marks.as_manifest() == manifest.sample_marks
    assert manifest.learned_kafka_ms == [(3, 1), (5, 2), (3, 4)]
    assert manifest.learned_times == [(10, 20, 30, 2), (11, 20, 30, 1)]
    assert manifest.created_ms <= manifest.cut_ms
    assert manifest.offsets == {f"{TOPIC}@t1": {"0": 6, "1": 4}}
    assert (manifest.tables["items"].rows, manifest.tables["items"].dim) == (len(_items()), 16)
    weights, trainer = opened.learner.state()
    stored = store.load(manifest, "model") | store.load(manifest, "trainer")
    for name, array in (weights | trainer | opened.ranges.state()).items():
        np.testing.assert_array_equal(stored[name], array, err_msg=name, strict=True)


def _items() -> set[str]:
    return {item for sample in make_samples(10) for item in sample.item_ids}


def test_a_cut_is_not_changed_by_what_is_learned_after_it(tmp_path: Path) -> None:
    """The version is written in a thread while the learner steps on: shared arrays would tear it."""
    store = learned_store(tmp_path / "one")
    opened = LearnedModel.open(store, MODEL, LEARN, {TOPIC: "t1"})
    write = opened.cut({}, {})
    batch = MicroBatch(10)
    for sample in make_samples(30)[10:]:
        if batch.fits(sample):
            batch.add(sample)
    opened.learn(batch)
    second = write()
    first = store.manifest(second.run_id, 1)
    for name in ("model", "trainer"):
        before, after = store.load(first, name), store.load(second, name)
        for key in before:
            np.testing.assert_array_equal(before[key], after[key], err_msg=key, strict=True)


def test_versions_between_full_ones_are_deltas_that_a_learner_goes_on_from(tmp_path: Path) -> None:
    """A restart from a delta must be a restart from all there was, with ids that came and went since."""
    settings = SnapshotSettings(url=str(tmp_path), max_delta_share=1e9)
    learn = replace(LEARN, max_items=16)
    opened = LearnedModel.open(SnapshotStore(settings), MODEL, learn, {TOPIC: "t1"})
    samples, sizes = make_samples(60, num_items=40), []
    for start in range(0, 60, 10):
        batch = MicroBatch(start)
        for sample in samples[start : start + 10]:
            batch.add(sample)
        opened.learn(batch)
        manifest = opened.cut({}, {})()
        sizes.append((manifest.kind, manifest.base_version))
    assert sizes == [("full", None), *(("delta", version) for version in range(1, 6))]
    assert opened.learner.num_evicted > 0
    again = LearnedModel.open(SnapshotStore(settings), MODEL, learn, {TOPIC: "t1"})
    for mine, its in zip(opened.learner.state(), again.learner.state(), strict=True):
        assert {name: array.tobytes() for name, array in mine.items()} == {
            name: array.tobytes() for name, array in its.items()
        }


def test_a_fall_of_the_hit_rate_is_logged_and_counted_and_the_window_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever watches the learner would not hear of it."""
    monkeypatch.setattr("model.drift.THRESHOLD", -1.0)
    learned_store(tmp_path)
    assert "drift: the hit rate has fallen" in caplog.text
    opened = LearnedModel.open(SnapshotStore(SnapshotSettings(url=str(tmp_path))), MODEL, LEARN, {TOPIC: "t1"})
    figures = opened.figures()
    assert figures["drift_alarms"] == figures["window_events_all"] > 0
    assert {"window_hit_rate_fresh_items", "fading_mrr_new_users", "window_auc"} < figures.keys()
    metrics = LearnerMetrics()
    metrics.show(figures)
    told = metrics.registry.get_sample_value("headwater_prequential", {"figure": "window_events_all"})
    assert told == figures["window_events_all"]


def test_other_model_settings_are_refused_by_name(tmp_path: Path) -> None:
    """Weights of another shape would be trained on, or the error would speak of tensors."""
    store = learned_store(tmp_path)
    other = ModelSettings(actions=("like", "rate"), dim=32, window=32, num_layers=1)
    with pytest.raises(SetupError) as raised:
        LearnedModel.open(store, other, LEARN, {TOPIC: "t1"})
    message = str(raised.value)
    assert "dim is 16 there, 32 here" in message
    assert "actions is ['like', 'dislike'] there, ['like', 'rate'] here" in message
    assert "window" not in message
    assert "snapshots.url" in message


def test_other_learning_settings_go_on(tmp_path: Path) -> None:
    """A learning rate could never be changed without beginning anew."""
    store = learned_store(tmp_path)
    opened = LearnedModel.open(store, MODEL, LearnSettings(row_rate=0.1, device="cpu"), {TOPIC: "t1"})
    assert opened.num_events == 10
    assert opened.batch_events == 128


def test_a_snapshot_of_another_format_is_refused(tmp_path: Path) -> None:
    """A newer format would be read as if it were ours."""
    store = learned_store(tmp_path)
    (path,) = tmp_path.rglob("manifest.json")
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"format_version": 3}))
    (latest,) = tmp_path.rglob("latest")
    pointer = json.loads(latest.read_text())
    pointer["manifest_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    latest.write_text(json.dumps(pointer))
    with pytest.raises(SnapshotError, match="format_version 3, this version reads 1 to 2"):
        LearnedModel.open(store, MODEL, LEARN, {TOPIC: "t1"})


def test_two_fresh_learners_have_runs_of_their_own(tmp_path: Path) -> None:
    """Equal run ids would make the versions of two experiments one another's."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path)))
    first, second = (LearnedModel.open(store, MODEL, LEARN, {TOPIC: "t1"}) for _ in range(2))
    assert first.run_id != second.run_id


def test_a_metrics_port_in_use_is_refused() -> None:
    """The learner would run unseen, and the replay would wait for it for ever."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"learner.metrics_port: port {port} on 127.0.0.1 is in use"):
            LearnerMetrics().serve("127.0.0.1", port)


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("publish_seconds", 0, "> 0"),
        ("publish_seconds", float("nan"), "> 0"),
        ("linger_seconds", -0.1, ">= 0"),
        ("linger_seconds", float("nan"), ">= 0"),
        ("metrics_port", 0, "1 to 65535"),
    ],
)
def test_learner_settings_out_of_range_are_refused(setting: str, value: float, allowed: str) -> None:
    """A learner that never publishes, or never learns, looks like one that works."""
    with pytest.raises(ValueError, match=f"{setting} must be {allowed}, got {value}"):
        LearnerSettings(**{setting: value})  # type: ignore[arg-type]  # names come as data


class Process:
    """What the process needs of Kafka, made up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.consumer = LogConsumer(SampleLog().send(make_samples(10)))
        self.described: TopicDescription | None = TopicDescription(topic_id="t1", num_partitions=2)
        self.served: list[tuple[str, int]] = []
        monkeypatch.setattr("streams.topics.describe_topic", lambda kafka, topic: self.described)
        monkeypatch.setattr("streams.learner_process.KafkaConsumer", self._connect)
        self.announced: list[int] | None = None
        monkeypatch.setattr("streams.learner_process.connect_announcer", lambda *_: self._announcer())
        monkeypatch.setattr(LearnerMetrics, "serve", lambda metrics, host, port: self.served.append((host, port)))

    def run(self, folder: Path) -> int:
        snapshots = SnapshotSettings(url=str(folder))
        return run_learner(KafkaSettings(), TopicSettings(), MODEL, LEARN, LearnerSettings(), snapshots)

    def _announcer(self) -> Any:
        announced = self.announced
        if announced is None:
            return None
        return SimpleNamespace(
            announce=lambda pointer: announced.append(pointer.version), close=lambda: announced.append(-1)
        )

    def _connect(self, **options: Any) -> LogConsumer:
        assert options["enable_auto_commit"] is False
        assert options["auto_offset_reset"] == "none"
        return self.consumer


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Any:
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Process(monkeypatch)
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_learner_that_is_told_to_stop_publishes_what_it_learned(
    process: Process, tmp_path: Path, number: signal.Signals
) -> None:
    """Every stop would throw away the last seconds of learning."""
    process.consumer.at_end = lambda: signal.raise_signal(number)
    assert process.run(tmp_path) == 0
    assert process.consumer.closed
    assert process.served == [("127.0.0.1", 6067)]
    opened = LearnedModel.open(SnapshotStore(SnapshotSettings(url=str(tmp_path))), MODEL, LEARN, {TOPIC: "t1"})
    assert opened.num_events == 10


def test_the_last_version_is_announced_before_the_process_ends(process: Process, tmp_path: Path) -> None:
    """What was learned before a stop would wait for the next look, or be on its way for ever."""
    process.announced = []
    process.consumer.at_end = lambda: signal.raise_signal(signal.SIGTERM)
    assert process.run(tmp_path) == 0
    assert process.announced == [1, -1]


def test_a_learner_whose_loop_fails_closes_its_consumer(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its threads would keep a dead learner's process alive, so that nothing restarts it."""

    def fail(learner: Learner) -> None:
        raise SnapshotError("the disk is full")

    monkeypatch.setattr(Learner, "run", fail)
    with pytest.raises(SnapshotError, match="disk is full"):
        process.run(tmp_path)
    assert process.consumer.closed


def test_a_missing_topic_is_refused(process: Process, tmp_path: Path) -> None:
    """The learner would wait for samples of a topic that nobody makes."""
    process.described = None
    with pytest.raises(SetupError, match="topic samples does not exist; create it with: headwater topics create"):
        process.run(tmp_path)


def test_a_broker_that_does_not_answer_is_named(
    process: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A traceback of the client library says nothing of the setting to change."""

    def connect(**options: Any) -> None:
        assert options["bootstrap_servers"] == ["127.0.0.1:9092"]
        raise KafkaTimeoutError("10 s")

    monkeypatch.setattr("streams.learner_process.KafkaConsumer", connect)
    with pytest.raises(SetupError, match=r"no answer from Kafka at 127.0.0.1:9092 .*kafka.bootstrap_servers"):
        process.run(tmp_path)
