"""`headwater verify`: waiting for workers and learner, then the whole comparison."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from deploy import verify as module
from deploy.verify import WorkerSequences, newest_ranges, verify_all
from storage.errors import SetupError
from storage.manifest import ManifestDraft, SampleMark
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from storage.store_settings import StoreSettings
from streams.events import Action, encode_event
from streams.expected import ExpectedState
from streams.kafka_settings import KafkaSettings
from streams.learned import LearnedRanges
from streams.plain_fold import FoldRules
from streams.topics import TopicDescription, TopicSettings
from tests.streams.made_samples import LOG_ID, sample_factory

URLS = ("http://a:1", "http://b:2")


class Workers(httpx.BaseTransport):
    """Two workers: each owns one partition, and says so once it was asked often enough."""

    def __init__(self) -> None:
        self.applied = {0: 0, 1: 0}
        self.up = {"a", "b"}
        self.rows: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.first_kept = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        host = request.url.host
        if host not in self.up:
            raise httpx.ConnectError("refused")
        partition = 0 if host == "a" else 1
        if request.url.path == "/state":
            state = {"epoch": 3 + partition, "applied": self.applied[partition]}
            return httpx.Response(200, json={"partitions": {str(partition): state}})
        row = self.rows.get(request.url.params["user_id"])
        if row is None or row["partition"] != partition:
            return httpx.Response(421, json={"error": "not mine"})
        until = request.url.params["until"]
        if int(until) < self.first_kept:
            return httpx.Response(410, json={"error": "no longer kept"})
        return httpx.Response(200, json=row | {"until": until})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only sleeping moves; `on_sleep` is what happens meanwhile."""
    made = SimpleNamespace(now=0.0, on_sleep=lambda: None)

    def sleep(seconds: float) -> None:
        made.now += seconds
        made.on_sleep()

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now, sleep=sleep))
    return made


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    made = Workers()
    client = httpx.Client
    monkeypatch.setattr("deploy.verify.httpx.Client", lambda timeout, **_: client(transport=made, timeout=timeout))
    return made


def test_the_epoch_is_that_of_the_worker_that_owns_the_partition(workers: Workers, clock: SimpleNamespace) -> None:
    """With another epoch every event would count as missing."""
    with WorkerSequences(URLS) as source:
        assert (source.epoch(0), source.epoch(1)) == (3, 4)
        with pytest.raises(SetupError, match="no worker of http://a:1, http://b:2 owns partition 7"):
            source.epoch(7)


def test_a_worker_that_is_restarting_is_waited_for(workers: Workers, clock: SimpleNamespace) -> None:
    """Right after a kill the comparison would fail for want of an answer."""
    workers.up = {"a"}
    clock.on_sleep = lambda: workers.up.add("b")
    with WorkerSequences(URLS) as source:
        assert source.epoch(1) == 4


def test_workers_that_are_behind_are_waited_for(workers: Workers, clock: SimpleNamespace) -> None:
    """What is on its way would be reported as missing."""

    def apply() -> None:
        workers.applied[1] += 1

    clock.on_sleep = apply
    with WorkerSequences(URLS) as source:
        source.wait_applied({0: 0, 1: 5})
        assert workers.applied[1] == 5
        with pytest.raises(SetupError, match=r"have not applied offsets \{0: 9\}"):
            source.wait_applied({0: 9, 1: 5})


def test_a_sequence_comes_from_the_worker_that_has_it(workers: Workers, clock: SimpleNamespace) -> None:
    """Users of the second worker would be missing."""
    workers.rows["bob"] = {"partition": 1, "item_ids": ["x"]}
    with WorkerSequences(URLS) as source:
        found = source.sequence("bob", 77)
        assert found is not None
        assert (found["item_ids"], found["until"]) == (["x"], "77")
        with pytest.raises(SetupError, match="gives the sequence of user 'eve'"):
            source.sequence("eve", 77)


def test_a_sequence_that_has_moved_on_is_told_from_one_that_nobody_has(
    workers: Workers, clock: SimpleNamespace
) -> None:
    """The command would wait for ever for what was trimmed since."""
    workers.rows["bob"] = {"partition": 1}
    workers.first_kept = 78
    with WorkerSequences(URLS) as source:
        assert source.sequence("bob", 77) is None
    assert clock.now == 0


def publish(store: SnapshotStore, version: int, offset: int, records: int, topic_id: str = LOG_ID) -> None:
    ranges = LearnedRanges()
    ranges.add(sample_factory(num_records=records), offset, topic_id)
    mark = SampleMark(topic_id=topic_id, epoch=0, trigger_offset=offset, n=0)
    draft = ManifestDraft(run_id="run", version=version, sample_marks={"0": mark})
    store.publish({"model": {"x": np.zeros(1)}, "trainer": ranges.state()}, draft)


def expected_factory(due: int) -> ExpectedState:
    return ExpectedState(FoldRules.of(StoreSettings()), LOG_ID, epochs={0: 0}, due={0: (due, 0)})


def test_ranges_come_from_the_first_version_that_has_passed_what_is_due(tmp_path: Path, clock: SimpleNamespace) -> None:
    """Samples that are learned but not yet published would be reported as lost."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path)))
    publish(store, 1, offset=5, records=2)
    clock.on_sleep = lambda: publish(store, 2, offset=9, records=4)
    assert newest_ranges(store, expected_factory(5))[0].of("ada", LOG_ID)["records"] == 2
    assert newest_ranges(store, expected_factory(9))[0].of("ada", LOG_ID)["records"] == 4


def test_what_was_learned_of_another_log_has_passed_nothing_of_this_one(tmp_path: Path, clock: SimpleNamespace) -> None:
    """After a topic was made anew, with the stores, its samples would be told as lost before they are learned."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path)))
    publish(store, 1, offset=900, records=40, topic_id="log-0")
    clock.on_sleep = lambda: publish(store, 2, offset=5, records=2)
    ranges, marks = newest_ranges(store, expected_factory(5))
    assert (ranges.of("ada", LOG_ID)["records"], marks[0].topic_id) == (2, LOG_ID)


def test_a_learner_that_stays_behind_is_reported_as_it_is(tmp_path: Path, clock: SimpleNamespace) -> None:
    """The command would wait for ever for samples that are lost."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path)))
    publish(store, 1, offset=5, records=2)
    assert newest_ranges(store, expected_factory(99))[0].of("ada", LOG_ID)["records"] == 2
    assert clock.now >= module.LEARNED_SECONDS


def test_without_a_snapshot_nothing_was_learned(tmp_path: Path, clock: SimpleNamespace) -> None:
    """A missing learner must show as lost samples, not as a traceback."""
    ranges, marks = newest_ranges(SnapshotStore(SnapshotSettings(url=str(tmp_path))), expected_factory(1))
    assert (len(ranges), marks) == (0, {})


def whole_run(monkeypatch: pytest.MonkeyPatch, workers: Workers, folder: Path) -> Any:
    """The report on one action of Bob's in partition 1, applied and learned."""
    event = Action(event_id="e", user_id="bob", ts_ms=7, item_id="x", action="like", value=4.0)
    record = SimpleNamespace(partition=1, offset=0, key=b"bob", value=encode_event(event), timestamp=9)
    monkeypatch.setattr("streams.expected.read_topic", lambda kafka, topic: [record])
    monkeypatch.setattr("streams.expected.first_offsets", lambda kafka, topic: {})
    described = TopicDescription(topic_id=LOG_ID, num_partitions=2)
    monkeypatch.setattr("streams.expected.existing_topic", lambda kafka, topic: described)
    monkeypatch.setattr("streams.verify.read_dead_letters", lambda kafka, topics: iter(()))
    store = StoreSettings(actions=("like",), sample_every=1)
    return verify_all(KafkaSettings(), TopicSettings(), store, URLS, SnapshotSettings(url=str(folder)))


def test_the_whole_comparison_is_exact_on_a_clean_run_and_not_on_another(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, clock: SimpleNamespace, tmp_path: Path
) -> None:
    """Each part may be right and one of them never called."""
    position = 4 << 48
    columns = {
        "item_ids": ["x"],
        "ts_ms": [7],
        "actions": [1],
        "valued": [[0, 0, 4.0]],
        "groups": [position],
        "indexes": [0],
    }
    workers.rows["bob"] = {"partition": 1, **columns}
    ranges = LearnedRanges()
    ranges.add(sample_factory(user_id="bob", num_records=1), position, LOG_ID)
    marks = {"1": SampleMark(topic_id=LOG_ID, epoch=4, trigger_offset=0, n=0)}
    draft = ManifestDraft(run_id="run", version=1, sample_marks=marks)
    snapshots = SnapshotStore(SnapshotSettings(url=str(tmp_path)))
    snapshots.publish({"model": {"x": np.zeros(1)}, "trainer": ranges.state()}, draft)
    report = whole_run(monkeypatch, workers, tmp_path)
    assert report.is_exact
    assert (report.users, report.events, report.impressions, report.pending) == (1, 1, 0, 0)
    workers.rows["bob"]["actions"] = [3]
    assert whole_run(monkeypatch, workers, tmp_path).findings["different"] == 1
    assert whole_run(monkeypatch, workers, tmp_path / "other").findings["samples_lost"] == 1
