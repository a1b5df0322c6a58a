"""Stochastic length: long histories are learned from a part of them, most of the time (Zhai et al. 2024, section 3.2).

Shapes: n events of a history.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from model.layout import Integers

Selection = Literal["newest", "random", "weighted"]
"""Which events of a shortened history stay; `weighted` draws older ones less often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StochasticLength:
    """How much of a history is learned from, drawn anew each time.

    With N the longest history, one of n <= N^(alpha / 2) events stays whole, and a longer one with the probability
    N^alpha / n^2; else N^(alpha / 2) of its events stay. Attention costs O(N^alpha) then.
    """

    alpha: float
    """1 < alpha <= 2; at 2 every history stays whole."""
    longest: int
    """N."""
    selection: Selection = "weighted"

    def __post_init__(self) -> None:
        if not 1 < self.alpha <= 2:
            raise ValueError(f"alpha must be in (1, 2], got {self.alpha}")
        if self.longest < 1:
            raise ValueError(f"longest must be >= 1, got {self.longest}")
        if self.selection not in ("newest", "random", "weighted"):
            raise ValueError(f"selection must be newest, random or weighted, got {self.selection!r}")

    @property
    def short(self) -> int:
        """Events that stay of a history that is shortened.

        >>> StochasticLength(alpha=1.6, longest=4_096).short
        776
        """
        return int(self.longest ** (self.alpha / 2))

    def expected_lengths(self, lengths: Integers) -> npt.NDArray[np.float64]:
        """Mean number of events that stay of histories of these lengths."""
        whole = self._whole_shares(lengths)
        return whole * lengths + (1 - whole) * np.minimum(lengths, self.short)

    def choose(self, seconds_n: Integers, draws: np.random.Generator) -> Integers:
        """Indexes of the events that stay, oldest first, of a history with these times in seconds."""
        count = len(seconds_n)
        if draws.random() < self._whole_shares(np.array([count]))[0]:
            return np.arange(count)
        if self.selection == "newest":
            return np.arange(count - self.short, count)
        chosen = draws.choice(count, self.short, replace=False, p=self._weights(seconds_n))
        return np.sort(chosen)

    def _whole_shares(self, lengths: Integers) -> npt.NDArray[np.float64]:
        shares = np.minimum(1.0, self.longest**self.alpha / np.maximum(lengths, 1).astype(np.float64) ** 2)
        return np.where(lengths <= self.short, 1.0, shares)

    def _weights(self, seconds_n: Integers) -> npt.NDArray[np.float64] | None:
        """Probabilities in proportion to 1 - f / sum(f), where f is an event's age; None is all alike."""
        ages_n = (seconds_n[-1] - seconds_n).astype(np.float64)
        if self.selection == "random" or ages_n.sum() == 0:
            return None
        weights_n: npt.NDArray[np.float64] = 1 - ages_n / ages_n.sum()
        weights_n /= weights_n.sum()
        return weights_n
