"""Incremental matrix factorisation by stochastic gradients, ISGD, with recency-based negatives.

Shapes: I items so far, D features.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from model.growth import with_room
from model.metrics import Floats
from model.peers.peer import Visit

_MAX_NORM = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ISGDSettings:
    """Model and training."""

    num_features: int = 64
    rate: float = 0.2
    regularisation: float = 0.03
    initial_deviation: float = 0.1
    """Of the normal draws that features of users and items begin with."""
    num_negatives: int = 5
    """Items that are learned to be none of the user's before each event: those that were not seen for longest."""
    seed: int = 0


class ISGD:
    """Score of an item = a_u . b_i; an event is learned as 1, by a step on its user's and its item's features.

    Vinagre, Jorge & Gama 2014 (Fast incremental matrix factorization for recommendation with positive-only feedback),
    and with negatives after their recency-based scheme of 2015 (Collaborative filtering with recency-based negative
    feedback): the items that no one acted on for longest are learned as 0 first, and go to the end of the queue. Items
    rank by the product, where the paper has its distance from 1; norms are kept below 2, so that no step runs away.
    """

    batch_visits = 1

    def __init__(self, settings: ISGDSettings = ISGDSettings()) -> None:
        self.settings = settings
        self._draws = {
            name: np.random.default_rng([settings.seed, number]) for number, name in enumerate(("users", "items"))
        }
        self._features = {name: np.zeros((0, settings.num_features)) for name in self._draws}
        self._queue: OrderedDict[int, None] = OrderedDict()
        """Items, those that nobody acted on for longest first."""

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """Products of features."""
        items_ID = self._table("items", num_items)[:num_items]
        return np.stack([items_ID @ self._table("users", visit.user + 1)[visit.user] for visit in visits])

    def learn(self, visits: Sequence[Visit]) -> None:
        """Step on the longest unseen items as 0, then on each visit as 1."""
        for visit in visits:
            self._queue.pop(visit.item, None)
            for item in list(islice(self._queue, self.settings.num_negatives)):
                self._step(visit.user, item, 0.0)
                self._queue.move_to_end(item)
            self._step(visit.user, visit.item, 1.0)
            self._queue[visit.item] = None

    def _step(self, user: int, item: int, goal: float) -> None:
        user_D, item_D = self._table("users", user + 1)[user], self._table("items", item + 1)[item]
        error = goal - float(user_D @ item_D)
        settings = self.settings
        user_D += settings.rate * (error * item_D - settings.regularisation * user_D)
        user_D *= min(1.0, _MAX_NORM / float(np.linalg.norm(user_D)))
        item_D += settings.rate * (error * user_D - settings.regularisation * item_D)
        item_D *= min(1.0, _MAX_NORM / float(np.linalg.norm(item_D)))

    def _table(self, name: str, num_rows: int) -> Floats:
        """Features of users or items, with rows drawn for those that are new."""
        table = self._features[name]
        if len(table) < num_rows:
            had = len(table)
            table = self._features[name] = with_room(table, num_rows)
            shape = (len(table) - had, self.settings.num_features)
            table[had:] = self._draws[name].normal(scale=self.settings.initial_deviation, size=shape)
        return table
