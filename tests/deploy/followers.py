"""Followers for tests, and what they are looked at for."""

from deploy.follower import Follower
from deploy.freshness import Freshness
from storage.snapshot_store import SnapshotStore
from tests.deploy.models import NOW_MS


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


def version_of(follower: Follower) -> str:
    assert follower.replica is not None
    return follower.replica.version
