"""Decayed popularity: the bar of every prequential figure, as a peer."""

from collections.abc import Sequence

import numpy as np

from model.metrics import Floats
from model.peers.peer import Visit
from model.popularity import Popularity

_TIE_BREAK = 1e-3


class DecayedPopularity:
    """An item's score is how often it was acted on, with a half-life of 5,000 actions (see `model.popularity`)."""

    batch_visits = 1

    def __init__(self) -> None:
        self._popularity = Popularity()

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """Decayed counts."""
        return np.stack([self._popularity.counts(num_items) for _ in visits])

    def learn(self, visits: Sequence[Visit]) -> None:
        """Count the items."""
        self._popularity.update(np.array([visit.item for visit in visits], np.int64))

    def tie_break(self, num_items: int) -> Floats:
        """What is added to the scores of others so that it decides among equals: together less than .001."""
        counts_I = self._popularity.counts(num_items)
        shares_I: Floats = counts_I / (counts_I.sum() + 1)
        return _TIE_BREAK * shares_I
