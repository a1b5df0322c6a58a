"""5-step Markov counts: what followed a user's last items before."""

from collections.abc import Sequence

import numpy as np

from model.metrics import Floats
from model.peers.decayed_popularity import DecayedPopularity
from model.peers.pair_counts import PairCounts
from model.peers.peer import Visit
from model.transition_memory import last_acted


class Markov:
    """Score of an item = sum over the user's last 5 items i_r, newest first, of count(item after i_r) / r.

    An action adds 1 to the count of its item after each of them; nothing is forgotten, nothing cut off. Among equals,
    and for a user without history, decayed popularity decides. Higher-order counts by skipping are those of Shani,
    Heckerman & Brafman 2005 (section 3.2, skipping), the weights those of sequential rules (Ludewig & Jannach 2018,
    section 3.1).
    """

    batch_visits = 1

    def __init__(self) -> None:
        self._followed = PairCounts()
        self._popularity = DecayedPopularity()

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """Weighted counts of what followed each user's last items."""
        return np.stack([self._scores(visit, num_items) for visit in visits])

    def learn(self, visits: Sequence[Visit]) -> None:
        """Count each item after those before it."""
        for visit in visits:
            recent_R = last_acted(visit.history, np.ones_like(visit.history))
            if len(recent_R):
                self._followed.add(recent_R, visit.item, 1.0)
        self._popularity.learn(visits)

    def _scores(self, visit: Visit, num_items: int) -> Floats:
        recent_R = last_acted(visit.history, np.ones_like(visit.history))
        weights_R = 1 / np.arange(1, len(recent_R) + 1)
        counts_I: Floats = weights_R @ self._followed.rows(recent_R, num_items).astype(np.float64)
        return counts_I + self._popularity.tie_break(num_items)
