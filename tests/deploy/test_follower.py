"""Following snapshots: what answers is whole, verified and the newest that can be had."""

import logging
import os
import time
from pathlib import Path

import pytest

from deploy.follower import Follower
from deploy.freshness import Freshness
from model.item_index import ClusteredIndex
from storage.aliases import Aliases
from storage.manifest import Manifest
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.deploy.models import ITEM_IDS, NOW_MS, SETTINGS, publish


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=2))


def follower_of(store: SnapshotStore, poll_seconds: float = 60) -> Follower:
    freshness = Freshness(lambda: NOW_MS)
    return Follower(store, freshness, poll_seconds=poll_seconds)


def measured(follower: Follower) -> int:
    """Records measured once the present replica has answered."""
    assert follower.replica is not None
    follower.freshness.answered(follower.replica.serial)
    # No record may be measured whole and not by its parts, nor the other way round.
    counts = {bins.count for bins in follower.freshness.parts.values()}
    assert counts == {follower.freshness.whole.count}
    return follower.freshness.whole.count


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


def version_of(follower: Follower) -> str:
    assert follower.replica is not None
    return follower.replica.version


def test_a_pinned_version_answers_until_it_is_released(store: SnapshotStore) -> None:
    """A rollback that the next version undoes is none."""
    follower, aliases = follower_of(store), Aliases(store)
    publish(store, 1)
    publish(store, 2)
    follower.poll()
    assert follower.followed is not None
    assert (follower.followed.generation, follower.followed.pinned) == (0, False)
    aliases.pin("champion", "run", 1, moved_ms=1)
    assert follower.poll()
    assert version_of(follower) == "run/v1"
    for version in range(3, 8):
        publish(store, version)
        assert not follower.poll()
    assert (version_of(follower), follower.followed.generation, follower.followed.pinned) == ("run/v1", 1, True)
    aliases.release("champion", moved_ms=2)
    assert follower.poll()
    assert (version_of(follower), follower.followed.generation, follower.followed.pinned) == ("run/v7", 2, False)


def test_a_move_to_the_version_that_answers_loads_nothing(store: SnapshotStore) -> None:
    """Pinning what answers is how one keeps it: there is nothing to build anew."""
    follower, aliases = follower_of(store), Aliases(store)
    publish(store, 1)
    follower.poll()
    aliases.pin("champion", "run", 1, moved_ms=1)
    assert not follower.poll()
    assert follower.followed is not None
    assert (follower.num_loaded, follower.followed.generation, follower.followed.pinned) == (1, 1, True)


def test_another_alias_is_followed_by_its_name(store: SnapshotStore) -> None:
    """A canary that follows the champion tries nothing out."""
    publish(store, 1)
    publish(store, 2)
    Aliases(store).pin("canary", "run", 1, moved_ms=1)
    canary = Follower(store, Freshness(lambda: NOW_MS), poll_seconds=60, alias="canary")
    champion = follower_of(store)
    assert canary.poll()
    assert champion.poll()
    assert (version_of(canary), version_of(champion)) == ("run/v1", "run/v2")


def test_an_alias_that_nobody_has_made_answers_nothing_and_says_so(store: SnapshotStore) -> None:
    """A misspelt name would follow the newest, and no rollback would reach it."""
    publish(store, 1)
    follower = Follower(store, Freshness(lambda: NOW_MS), poll_seconds=60, alias="champoin")
    assert not follower.poll()
    assert follower.replica is None
    assert follower.problem is not None
    assert "alias champoin cannot be loaded: there is no alias champoin" in follower.problem


DAMAGED = {
    "no json": b"{",
    "huge": b" " * 70_000,
    "unknown version": b'{"generation":9,"pinned":{"run_id":"run","version":9,"manifest_sha256":"%s"}}' % (b"0" * 64),
    "path": b'{"generation":9,"pinned":{"run_id":"../x","version":9,"manifest_sha256":"%s"}}' % (b"0" * 64),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_alias_leaves_the_former_answering(store: SnapshotStore, name: str) -> None:
    """Whoever can spoil an object must not be able to end the serving."""
    follower = follower_of(store)
    publish(store, 1)
    follower.poll()
    store.objects.put("headwater/aliases/champion", DAMAGED[name])
    publish(store, 2)
    assert not follower.poll()
    assert version_of(follower) == "run/v1"
    assert follower.problem is not None
    assert "cannot be loaded" in follower.problem
    store.objects.delete("headwater/aliases/champion")
    assert follower.poll()
    assert version_of(follower) == "run/v2"
    assert not follower.problem


def test_records_are_told_once_through_a_rollback_and_a_release(store: SnapshotStore) -> None:
    """What answered before the rollback is no news when the versions after it answer again."""
    follower, aliases = follower_of(store), Aliases(store)
    for version in (1, 2, 3):
        publish(store, version, learned_kafka_ms=[(1_000, 1)])
        follower.poll()
        measured(follower)
    assert measured(follower) == 2
    aliases.pin("champion", "run", 2, moved_ms=1)
    follower.poll()
    assert (version_of(follower), measured(follower)) == ("run/v2", 2)
    publish(store, 4, learned_kafka_ms=[(1_000, 10)])
    publish(store, 5, learned_kafka_ms=[(1_000, 100)])
    follower.poll()
    assert measured(follower) == 2
    aliases.pin("champion", "run", 3, moved_ms=2)
    follower.poll()
    assert (version_of(follower), measured(follower)) == ("run/v3", 2)
    aliases.release("champion", moved_ms=3)
    follower.poll()
    assert (version_of(follower), measured(follower)) == ("run/v5", 112)
    assert follower.num_missed == 0


def test_records_that_wait_for_an_answer_when_a_rollback_comes_are_not_measured(store: SnapshotStore) -> None:
    """The first answer of the older version would count as the first that knows them."""
    follower, aliases = follower_of(store), Aliases(store)
    publish(store, 1)
    follower.poll()
    publish(store, 2, learned_kafka_ms=[(1_000, 5)])
    follower.poll()
    aliases.pin("champion", "run", 1, moved_ms=1)
    follower.poll()
    assert measured(follower) == 0
    assert follower.freshness.num_dropped == 5


def test_a_server_that_begins_while_pinned_takes_what_is_published_for_known(store: SnapshotStore) -> None:
    """Those versions may have answered before the rollback: their delays would be hours."""
    publish(store, 1)
    publish(store, 2)
    Aliases(store).pin("champion", "run", 1, moved_ms=1)
    publish(store, 3, learned_kafka_ms=[(1_000, 1)])
    follower = follower_of(store)
    follower.poll()
    assert version_of(follower) == "run/v1"
    publish(store, 4, learned_kafka_ms=[(1_000, 10)])
    Aliases(store).release("champion", moved_ms=2)
    follower.poll()
    assert (version_of(follower), measured(follower)) == ("run/v4", 10)


def test_a_rollback_to_another_run_and_back_tells_nothing_twice(store: SnapshotStore) -> None:
    """A former run's versions are the usual place to flee to; its number says nothing of the present one's."""
    follower, aliases = follower_of(store), Aliases(store)
    publish(store, 9, run_id="old")
    aliases.pin("canary", "old", 9, moved_ms=1)
    publish(store, 1)
    follower.poll()
    publish(store, 2, learned_kafka_ms=[(1_000, 1)])
    follower.poll()
    assert measured(follower) == 1
    moves = (("old", 9), ("run", 1), ("run", 2))
    for run_id, version in moves:
        aliases.pin("champion", run_id, version, moved_ms=2)
        assert follower.poll()
        assert (version_of(follower), measured(follower)) == (f"{run_id}/v{version}", 1)
    publish(store, 3, learned_kafka_ms=[(1_000, 10)])
    aliases.release("champion", moved_ms=3)
    follower.poll()
    assert measured(follower) == 11
    aliases.pin("champion", "old", 9, moved_ms=4)
    follower.poll()
    publish(store, 4, learned_kafka_ms=[(1_000, 100)])
    aliases.release("champion", moved_ms=5)
    follower.poll()
    assert (version_of(follower), measured(follower)) == ("run/v4", 11)


def test_a_release_after_many_versions_reads_only_what_is_there(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a night a thousand reads of what is gone would stand between the release and the newest version."""
    follower, aliases = follower_of(store), Aliases(store)
    publish(store, 1)
    follower.poll()
    aliases.pin("champion", "run", 1, moved_ms=1)
    follower.poll()
    for version in (2, 500, 501, 502):
        publish(store, version, learned_kafka_ms=[(1_000, 1)])
    aliases.release("champion", moved_ms=2)
    reads: list[int] = []
    manifest = store.manifest

    def read(run_id: str, version: int, sha256: str | None = None) -> Manifest:
        reads.append(version)
        return manifest(run_id, version, sha256)

    monkeypatch.setattr(store, "manifest", read)
    assert follower.poll()
    assert (version_of(follower), measured(follower), follower.num_missed) == ("run/v502", 3, 498)
    assert sorted(reads) == [500, 501, 502]


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
