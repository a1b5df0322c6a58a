"""A stream of made records over a vocabulary that grows: each follows a few categories that it has met before.

Zhai et al. 2024 (arXiv 2402.17152), appendix C: ids belong to random categories; a part of them is there at first, the
others come evenly over the stream. A record has 1 to 5 categories and a prior H over them (flat Dirichlet), and a
weight alpha ~ U(1, 500). After n items, category c comes next with probability (alpha H_c + n_c) / (alpha + n), where
n_c counts its own items so far; the item is any of the category's that are there, each as likely. There are no times.

Shapes: R records, L items of each, C categories of a record at most, K all categories, V ids.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.layout import Integers
from model.metrics import Floats

_MOST_CATEGORIES = 5
_MOST_ALPHA = 500.0


@dataclass(frozen=True, kw_only=True, slots=True)
class UrnSettings:
    """Size of the stream; the defaults are a fiftieth to a tenth of the paper's."""

    num_records: int = 100_000
    num_ids: int = 2_000
    num_categories: int = 100
    record_length: int = 128
    """Items of a record."""
    first_share: float = 0.4
    """Share of the ids that are there from the beginning."""
    num_parts: int = 20
    """The stream comes in so many parts of equal length; the last tenth of them is the test."""

    def __post_init__(self) -> None:
        if self.record_length < 2:
            raise ValueError(f"record_length must be >= 2, got {self.record_length}")
        if self.num_categories < _MOST_CATEGORIES:
            raise ValueError(f"num_categories must be >= {_MOST_CATEGORIES}, got {self.num_categories}")
        if not 0 < self.first_share <= 1 or self.num_ids * self.first_share < self.num_categories:
            raise ValueError(
                f"first_share must be in (0, 1] and leave one id for each category, got {self.first_share}"
            )
        if self.num_parts < 10 or self.num_records < self.num_parts or self.num_records % self.num_parts:
            raise ValueError(f"num_parts must be >= 10 and divide num_records, got {self.num_parts}")


@dataclass(frozen=True, slots=True)
class UrnRecords:
    """Some records in their order, and what only their maker knows."""

    items_RL: Integers
    """Ids from 1."""
    num_there_R: Integers
    """Ids that are there at each record: 1 to this number."""
    shares_RLC: Floats
    """Probability of each of the record's categories at each place."""
    sizes_RC: Integers
    """Ids of each of the record's categories that are there."""

    def oracle_hit_rate(self, cutoff: int) -> float:
        """Share of hits in `cutoff` guesses of whoever knows categories, prior and alpha, at all places but the first.

        >>> records = UrnRecords(
        ...     np.ones((1, 2)), np.array([30]), np.array([[[0.5, 0.5], [0.75, 0.25]]]), np.array([[5, 20]])
        ... )
        >>> records.oracle_hit_rate(10)  # 5 of 5 ids, then 5 of 20
        0.8125
        """
        shares_RLC = self.shares_RLC[:, 1:]
        each_RLC = shares_RLC / self.sizes_RC[:, None]
        order_RLC = np.argsort(-each_RLC, axis=-1)
        sizes_RLC = np.take_along_axis(np.broadcast_to(self.sizes_RC[:, None], each_RLC.shape), order_RLC, -1)
        before_RLC = np.cumsum(sizes_RLC, -1) - sizes_RLC
        guessed_RLC = np.clip(cutoff - before_RLC, 0, sizes_RLC)
        return float((np.take_along_axis(each_RLC, order_RLC, -1) * guessed_RLC).sum(-1).mean())


class UrnStream:
    """The stream of one seed; each part follows from the seed and its own number."""

    def __init__(self, settings: UrnSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        draws = np.random.default_rng(seed)
        first = int(settings.num_ids * settings.first_share)
        categories_V = draws.integers(settings.num_categories, size=settings.num_ids)
        # One of the first ids for each category, so that every category can always be drawn from.
        categories_V[draws.permutation(first)[: settings.num_categories]] = np.arange(settings.num_categories)
        is_own_VK = categories_V[:, None] == np.arange(settings.num_categories)
        self._sizes_VK = np.concatenate(
            [np.zeros((1, settings.num_categories), np.int64), np.cumsum(is_own_VK, axis=0)]
        )
        self._ids_by_category = np.argsort(categories_V, kind="stable") + 1
        self._starts_K = np.cumsum(self._sizes_VK[-1]) - self._sizes_VK[-1]

    @property
    def num_learned_parts(self) -> int:
        """Parts before the test."""
        return self.settings.num_parts * 9 // 10

    def part(self, number: int) -> UrnRecords:
        """Records of one part."""
        settings = self.settings
        num_records = settings.num_records // settings.num_parts
        draws = np.random.default_rng([self.seed, number])
        progress_R = (number * num_records + np.arange(num_records)) / settings.num_records
        share_R = settings.first_share + (1 - settings.first_share) * progress_R
        num_there_R = (settings.num_ids * share_R).astype(np.int64)
        categories_RC = np.argsort(draws.random((num_records, settings.num_categories)), axis=1)[:, :_MOST_CATEGORIES]
        is_own_RC = np.arange(_MOST_CATEGORIES) < draws.integers(1, _MOST_CATEGORIES + 1, size=(num_records, 1))
        weights_RC = draws.exponential(size=is_own_RC.shape) * is_own_RC
        prior_RC = weights_RC / weights_RC.sum(1, keepdims=True)
        chosen_RL, shares_RLC = self._categories(prior_RC, draws)
        sizes_RC = np.take_along_axis(self._sizes_VK[num_there_R], categories_RC, 1)
        picked_RL = np.take_along_axis(categories_RC, chosen_RL, 1)
        place_RL = draws.random(picked_RL.shape) * np.take_along_axis(sizes_RC, chosen_RL, 1)
        items_RL = self._ids_by_category[self._starts_K[picked_RL] + place_RL.astype(np.int64)]
        return UrnRecords(items_RL, num_there_R, shares_RLC, sizes_RC)

    def _categories(self, prior_RC: Floats, draws: np.random.Generator) -> tuple[Integers, Floats]:
        """Which of its categories each record has at each place, and how likely each was."""
        num_records, length = len(prior_RC), self.settings.record_length
        alpha_R1 = draws.uniform(1, _MOST_ALPHA, size=(num_records, 1))
        counts_RC = np.zeros_like(prior_RC)
        chosen_RL = np.zeros((num_records, length), np.int64)
        shares_RLC: npt.NDArray[np.float64] = np.zeros((num_records, length, prior_RC.shape[1]))
        for place in range(length):
            shares_RLC[:, place] = (alpha_R1 * prior_RC + counts_RC) / (alpha_R1 + place)
            # Divided by its own last entry, so that rounding cannot leave a draw above all of them.
            edges_RC = np.cumsum(shares_RLC[:, place], 1)
            chosen_RL[:, place] = (draws.random((num_records, 1)) >= edges_RC / edges_RC[:, -1:]).sum(1)
            counts_RC[np.arange(num_records), chosen_RL[:, place]] += 1
        return chosen_RL, shares_RLC
