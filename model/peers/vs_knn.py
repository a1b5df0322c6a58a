"""VS-kNN: users with a like recent past, and what they went on to.

Shapes: I items so far, U users so far, P items of the current session, N neighbours, M newest users or items kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.layout import Integers
from model.metrics import Floats
from model.peers.decayed_popularity import DecayedPopularity
from model.peers.newest import Newest
from model.peers.peer import Visit


@dataclass(frozen=True, kw_only=True, slots=True)
class VSKNNSettings:
    """How far it looks."""

    session_items: int = 20
    """Newest items of the user that are the current session."""
    sample: int = 500
    """Newest users of each of these items that may be neighbours."""
    neighbours: int = 100
    """Most similar of them that vote."""
    neighbour_items: int = 200
    """Newest items of a neighbour that it votes for."""
    idf_power: float = 0.5
    """Votes for an item are multiplied by its idf to this power."""


class VSKNN:
    """Score of an item = sum of the votes of the neighbours that acted on it, times a power of its idf.

    Ludewig & Jannach 2018 (arXiv 1803.09587, V-SkNN) and the research code published with it: the similarity of a
    session is the sum of the weights of the items that the current one shares with it, which fall linearly from 1 for
    the newest. The most similar ones vote with their similarity, over the root of their length and the place of the
    newest item that they share. A session is all that a user did so far, and other users' go on, too; idf = log(1 +
    users / users of the item). Among equals, and for a user without history, decayed popularity decides.
    """

    batch_visits = 1

    def __init__(self, settings: VSKNNSettings = VSKNNSettings()) -> None:
        self.settings = settings
        self._users, self._items = Newest(settings.sample), Newest(settings.neighbour_items)
        """Of each item, who acted on it; of each user, what was acted on."""
        self._popularity = DecayedPopularity()

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """Votes of each user's neighbours."""
        ties_I = self._popularity.tie_break(num_items)
        return np.stack([self._votes(visit, num_items) + ties_I for visit in visits])

    def learn(self, visits: Sequence[Visit]) -> None:
        """Add each item to its user's session."""
        for visit in visits:
            self._users.add(visit.item, visit.user)
            self._items.add(visit.user, visit.item)
        self._popularity.learn(visits)

    def _votes(self, visit: Visit, num_items: int) -> Floats:
        neighbours_N, votes_N = self._neighbours(visit)
        items_NM = self._items.rows(neighbours_N)
        weights_NM = np.broadcast_to(votes_N[:, None], items_NM.shape)
        kept_NM = items_NM >= 0
        votes_I = np.bincount(items_NM[kept_NM], weights_NM[kept_NM], num_items).astype(np.float64)
        users_of_I = np.maximum(self._users.counts(num_items), 1)
        idf_I: Floats = np.log1p(self._items.num_rows / users_of_I)
        return votes_I * idf_I**self.settings.idf_power

    def _neighbours(self, visit: Visit) -> tuple[Integers, Floats]:
        """The most similar of the other users, and what each votes with."""
        session_P = visit.history[-self.settings.session_items :]
        shared_U = np.zeros(max(self._items.num_rows, visit.user + 1))
        place_U = np.ones_like(shared_U)
        for place, users_M in zip(range(len(session_P), 0, -1), self._users.rows(session_P), strict=True):
            users = users_M[users_M >= 0]
            shared_U[users] += 1 - (place - 1) / self.settings.session_items
            place_U[users] = place
        shared_U[visit.user] = 0
        users_N = np.flatnonzero(shared_U)
        best_N = users_N[np.argsort(-shared_U[users_N], kind="stable")[: self.settings.neighbours]]
        lengths_N = self._items.counts(len(shared_U))[best_N]
        return best_N, shared_U[best_N] / (place_U[best_N] * np.sqrt(lengths_N))
