"""What is asked of a model about one user."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from model.sequence import UserSequence

Scores = TypeVar("Scores")
"""What the answer is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question(Generic[Scores]):
    """Of whom something is asked, and when."""

    sequence: UserSequence
    now_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BestItems(Question[list[tuple[str, float]]]):
    """Which items are best; see `Recommender.recommend`. Raises `ValueError` for k < 1."""

    k: int
    unavailable: Container[str] = ()

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be >= 1, got {self.k}")


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenItems(Question[list[dict[str, float]]]):
    """What the user would do with each of these; see `Recommender.rank`."""

    item_ids: Sequence[str]
