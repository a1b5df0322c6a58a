"""Item-kNN with co-counts that follow the stream.

Shapes: I items so far, R recent items of a user.
"""

from collections.abc import Sequence

import numpy as np

from model.growth import with_room
from model.layout import Integers
from model.metrics import Floats
from model.peers.decayed_popularity import DecayedPopularity
from model.peers.pair_counts import PairCounts
from model.peers.peer import Visit

WINDOW = 20
"""Newest items of a user that a new one is counted with, and that are scored from."""


class ItemKNN:
    """Score of an item j = sum over the user's newest 20 items i of count(i with j) / sqrt(count(i) count(j)).

    Cosine of items (Sarwar et al. 2001, section 3.1.1) over all neighbours, from counts that are added to with each
    action (Huang et al. 2015, TencentRec, section 4.1, without its pruning); pairs count where they lie at most 20
    actions apart. Among equals, and for a user without history, decayed popularity decides.
    """

    batch_visits = 1

    def __init__(self) -> None:
        self._together = PairCounts()
        self._counts_I = np.zeros(256)
        self._popularity = DecayedPopularity()

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """Summed similarities to each user's newest items."""
        return np.stack([self._scores(visit, num_items) for visit in visits])

    def learn(self, visits: Sequence[Visit]) -> None:
        """Count each item with those before it."""
        for visit in visits:
            recent_R = _newest(visit.history)
            recent_R = recent_R[recent_R != visit.item]
            if len(recent_R):
                self._together.add(recent_R, visit.item, 1.0)
                self._together.add(visit.item, recent_R, 1.0)
            self._counts_I = with_room(self._counts_I, visit.item + 1)
            self._counts_I[visit.item] += 1
        self._popularity.learn(visits)

    def _scores(self, visit: Visit, num_items: int) -> Floats:
        recent_R = _newest(visit.history)
        self._counts_I = with_room(self._counts_I, num_items)
        counts_I = np.maximum(self._counts_I[:num_items], 1)
        weights_R = 1 / np.sqrt(counts_I[recent_R])
        sums_I: Floats = weights_R @ self._together.rows(recent_R, num_items).astype(np.float64)
        return sums_I / np.sqrt(counts_I) + self._popularity.tie_break(num_items)


def _newest(history: Integers) -> Integers:
    return np.unique(history[-WINDOW:])
