"""Following snapshots: what answers is whole, verified and the newest that can be had."""

import logging
import os
import time
from pathlib import Path

import pytest

from deploy.follower import Follower
from deploy.freshness import Freshness
from model.item_index import ClusteredIndex
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.deploy.followers import follower_of, measured
from tests.deploy.models import ITEM_IDS, NOW_MS, SETTINGS, publish


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=2))


def test_the_newest_version_is_loaded_once(store: SnapshotStore) -> None:
    follower = follower_of(store)
    assert not follower.poll()
    assert follower.replica is None
    publish(store, 1)
    publish(store, 2)
    assert follower.poll()
    assert follower.replica is not None
    assert (follower.replica.version, follower.replica.settings) == ("run/v2", SETTINGS)
    assert not follower.poll()
    assert follower.num_loaded == 1


def test_a_large_catalogue_is_answered_from_clusters_and_the_log_says_what_they_find(
    store: SnapshotStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A server would answer a twentieth of what it should, and nobody would know."""
    follower = Follower(store, Freshness(lambda: NOW_MS), poll_seconds=60, exact_items=len(ITEM_IDS) - 1)
    publish(store, 1)
    with caplog.at_level(logging.INFO, "deploy.follower"):
        assert follower.poll()
    assert follower.replica is not None
    assert isinstance(follower.replica.recommender.index, ClusteredIndex)
    assert "run/v1: 40 items in 1 clusters, 1 looked at: recall@100 1.000" in caplog.text


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_damaged_snapshot_leaves_the_former_answering(store: SnapshotStore, tmp_path: Path, name: str) -> None:
    """One flipped bit must neither be served nor stop the serving."""
    follower = follower_of(store)
    publish(store, 1)
    follower.poll()
    publish(store, 2)
    path = tmp_path / "headwater/run/v000000002" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert not follower.poll()
    assert follower.replica is not None
    assert follower.replica.version == "run/v1"
    assert follower.problem is not None
    assert "run/v2 cannot be loaded" in follower.problem
    publish(store, 3)
    assert follower.poll()
    assert follower.replica.version == "run/v3"
    assert follower.num_failed == 1
    assert not follower.problem


def test_a_version_that_cannot_be_loaded_is_tried_again_after_a_pause(store: SnapshotStore) -> None:
    """Reading a damaged gigabyte at every look would take the server's time for nothing."""
    follower = follower_of(store)
    publish(store, 1, config={"actions": ["like"], "depth": 3})
    for _ in range(5):
        follower.poll()
    assert follower.num_failed == 1
    assert follower.replica is None


def test_records_of_versions_passed_over_are_counted(store: SnapshotStore) -> None:
    """The learner may publish faster than the server looks; every record still has its first answer."""
    follower = follower_of(store)
    publish(store, 1, learned_kafka_ms=[(1_000, 100)])
    follower.poll()
    assert measured(follower) == 0
    publish(store, 2, learned_kafka_ms=[(1_000, 1)])
    publish(store, 3, learned_kafka_ms=[(2_000, 2), (3_000, 4)])
    follower.poll()
    assert measured(follower) == 7
    assert follower.num_missed == 0


def test_what_a_load_took_is_told_by_its_parts(store: SnapshotStore, tmp_path: Path) -> None:
    """Slow storage would be blamed on the learner, or on nobody asking."""
    times_ms = iter([1_000, 5_000, 5_400, 6_000])
    follower = Follower(store, Freshness(lambda: next(times_ms)), poll_seconds=60)
    publish(store, 1)
    follower.poll()
    publish(store, 2, learned_kafka_ms=[(1_000, 1)], created_ms=2_000, cut_ms=2_100)
    os.utime(tmp_path / "headwater/latest", (3, 3))
    follower.poll()
    follower.freshness.answered(2)
    told = {part: bins.quantile_seconds(1.0) for part, bins in follower.freshness.parts.items()}
    expected = {"cut": 0.11, "publish": 0.91, "fetch": 2.01, "apply": 0.41, "answer": 0.61}
    assert told == {"worker": 0.01, "queue": 0.01, "learn": 0.01, "wait": 1.01, **expected}


def test_versions_gone_before_they_were_seen_are_counted_as_missed(store: SnapshotStore) -> None:
    follower = follower_of(store)
    publish(store, 1)
    follower.poll()
    for version in range(2, 8):
        publish(store, version, learned_kafka_ms=[(1_000, 1)])
    follower.poll()
    assert store.versions("run") == [5, 6, 7]
    assert follower.num_missed == 3
    assert measured(follower) == 3


def test_a_rollback_learns_nothing_new(store: SnapshotStore) -> None:
    """Records that answered before must not be measured again when the pointer moves back and forth."""
    follower = follower_of(store)
    publish(store, 5)
    follower.poll()
    publish(store, 4, learned_kafka_ms=[(1_000, 1)])
    follower.poll()
    assert follower.replica is not None
    assert follower.replica.version == "run/v4"
    assert measured(follower) == 0
    publish(store, 6, learned_kafka_ms=[(1_000, 1)])
    follower.poll()
    assert measured(follower) == 1


def test_the_first_version_of_another_run_is_not_measured(store: SnapshotStore) -> None:
    """A new run may have learned the log from its beginning: those records are no news."""
    follower = follower_of(store)
    publish(store, 1)
    follower.poll()
    publish(store, 9, run_id="other", learned_kafka_ms=[(1_000, 1_000)])
    follower.poll()
    assert measured(follower) == 0
    publish(store, 10, run_id="other", learned_kafka_ms=[(1_000, 1)])
    follower.poll()
    assert measured(follower) == 1


def test_the_thread_follows_and_stops(store: SnapshotStore) -> None:
    follower = follower_of(store, poll_seconds=0.01)
    follower.start()
    try:
        for version in (1, 2):
            publish(store, version)
            deadline = time.monotonic() + 20
            while follower.num_loaded < version and time.monotonic() < deadline:
                time.sleep(0.01)
            assert follower.num_loaded == version
    finally:
        follower.stop()
    assert follower.replica is not None
    assert follower.replica.version == "run/v2"
    publish(store, 3)
    assert follower.num_loaded == 2


def test_a_look_that_is_asked_for_does_not_wait_for_its_time(store: SnapshotStore) -> None:
    """An announcement is worth the seconds that it saves; those that say nothing new, or all at once, cost a look."""
    follower = follower_of(store, poll_seconds=600)
    follower.start()
    try:
        for version in (1, 2, 3):
            publish(store, version)
            deadline = time.monotonic() + 20
            while follower.num_loaded < version and time.monotonic() < deadline:
                for _ in range(100):
                    follower.look()
                time.sleep(0.01)
            assert follower.num_loaded == version
    finally:
        follower.stop()
    assert follower.num_failed == 0
