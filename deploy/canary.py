"""Two versions side by side: which users are answered by the canary."""

from typing import NamedTuple

import xxhash

from deploy.follower import Follower, Replica


class Side(NamedTuple):
    """An alias, and the replica that answers for it in one request."""

    follower: Follower
    replica: Replica


class Split:
    """Users between the champion and a canary, by a hash of the user's id: each is always on the same side.

    The canary's name is in the hash, so that another canary has other users; with a larger share the same users stay.
    """

    def __init__(self, champion: Follower, canary: Follower | None = None, share: float = 0.0) -> None:
        self.champion = champion
        self.canary = canary
        self.share = share
        self.num_fallbacks = 0
        """Requests that the champion answered as the canary could not."""

    @property
    def followers(self) -> list[Follower]:
        """Whose versions answer, the champion first."""
        return [self.champion] if self.canary is None else [self.champion, self.canary]

    def of(self, user_id: str) -> Follower:
        """Who is to answer the user."""
        if self.canary is None:
            return self.champion
        drawn = xxhash.xxh3_64_intdigest(f"{self.canary.alias}\0{user_id}".encode()) / 2**64
        return self.canary if drawn < self.share else self.champion

    def share_of(self, follower: Follower) -> float:
        """Share of the users that a side is to answer."""
        if self.canary is None:
            return 1.0
        return self.share if follower is self.canary else 1 - self.share
