"""A data set as histories: each user's items in order, one user after the other.

Shapes: T events of all users, B users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from model.layout import Integers


@dataclass(frozen=True, eq=False, kw_only=True)
class Corpus:
    """Items are numbered from 1, as row 0 of an item table is padding. Times are int64 seconds."""

    name: str
    offsets: Integers
    """First event of each user, and T, [B + 1]."""
    items_T: Integers
    seconds_T: Integers
    num_items: int

    @property
    def num_users(self) -> int:
        """B."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Integers:
        """Events of each user, [B]."""
        return np.diff(self.offsets)

    @classmethod
    def from_events(cls, name: str, user_ids: Sequence[str], item_ids: Sequence[str], seconds: Integers) -> Self:
        """Group events by user, in the order in which they are given; users and items are numbered by their ids.

        >>> corpus = Corpus.from_events("made", ["u", "v", "u"], ["b", "a", "a"], np.array([1, 2, 3]))
        >>> corpus.offsets.tolist(), corpus.items_T.tolist(), corpus.seconds_T.tolist()
        ([0, 2, 3], [2, 1, 1], [1, 3, 2])
        """
        users_T = np.unique(np.array(user_ids), return_inverse=True)[1]
        names, items_T = np.unique(np.array(item_ids), return_inverse=True)
        order = np.argsort(users_T, kind="stable")
        return cls(
            name=name,
            offsets=np.concatenate([[0], np.cumsum(np.bincount(users_T))]),
            items_T=items_T[order] + 1,
            seconds_T=seconds[order],
            num_items=len(names),
        )
