"""The seam between the protocol and what is held against the learner: scores before, learning after.

Shapes: Q targets, I items so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from model.layout import Integers
from model.metrics import Floats


@dataclass(frozen=True, slots=True)
class Visit:
    """A target: a user's first action on an event."""

    number: int
    """Of the event in the stream, from 0."""
    user: int
    """Users and items are numbered in the order in which the stream brings them."""
    item: int
    history: Integers
    """Items that the user acted on before, oldest first; those of the event's own group are not among them."""


class Peer(Protocol):
    """What is held against the learner; it sees the events that users acted on, each once."""

    batch_visits: int
    """Most targets that are scored before any of them is learned: 1 for what is counted."""

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """Finite scores [Q, I] of the first `num_items` items; of each visit it reads the user and what lies before."""
        ...

    def learn(self, visits: Sequence[Visit]) -> None:
        """Learn the visits that were scored last."""
        ...
