"""Following an alias that is pinned, moved and released: what answers, and what counts as learned first."""

from pathlib import Path

import pytest

from deploy.follower import Follower
from deploy.freshness import Freshness
from storage.aliases import Aliases
from storage.manifest import Manifest
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.deploy.followers import follower_of, measured, version_of
from tests.deploy.models import NOW_MS, publish


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=2))


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
