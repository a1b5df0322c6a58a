"""What is asked of a model about one user."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from model.sequence import UserSequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Of whom something is asked, and when."""

    sequence: UserSequence
    now_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BestItems(Question):
    """Which items are best; see `Recommender.recommend`."""

    k: int
    unavailable: Container[str] = ()

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be >= 1, got {self.k}")


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenItems(Question):
    """What the user would do with each of these; see `Recommender.rank`."""

    item_ids: Sequence[str]


Scores = list[tuple[str, float]] | list[dict[str, float]]
"""What answers either: (item id, score) best first, or the probability of each action on each item."""
