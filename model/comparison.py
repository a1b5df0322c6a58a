"""Two rank series of one stream, held against each other event by event.

Shapes: N targets, U users.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model.layout import Integers
from model.metrics import Floats, rank_gains

EXACT_UP_TO = 25
"""Discordant pairs up to which McNemar's test is the exact one."""
_RESAMPLES = 1_000
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True, kw_only=True, slots=True)
class McNemar:
    """McNemar's test of whether two models hit equally often on the same targets."""

    only_a: int
    """Targets that A hit and B missed."""
    only_b: int
    statistic: float
    """Chi squared with one degree of freedom; where the test is exact, the smaller of both counts."""
    p_value: float
    """Of a difference at least so large, either way, where both hit equally often."""
    exact: bool


def mcnemar(only_a: int, only_b: int) -> McNemar:
    """McNemar 1947, with Edwards' correction for continuity: (|a - b| - 1)^2 / (a + b); few pairs by the binomial.

    >>> round(mcnemar(1, 9).p_value, 6), round(mcnemar(40, 70).statistic, 4), round(mcnemar(40, 70).p_value, 4)
    (0.021484, 7.6455, 0.0057)
    """
    pairs = only_a + only_b
    if pairs <= EXACT_UP_TO:
        fewer = min(only_a, only_b)
        tail = sum(math.comb(pairs, count) for count in range(fewer + 1)) / 2**pairs
        return McNemar(only_a=only_a, only_b=only_b, statistic=fewer, p_value=min(1.0, 2 * tail), exact=True)
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / pairs
    # The upper tail of chi squared with one degree of freedom.
    p_value = math.erfc(math.sqrt(statistic / 2))
    return McNemar(only_a=only_a, only_b=only_b, statistic=statistic, p_value=p_value, exact=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A mean gain of A and of B at rank 10, and A's less B's."""

    a: float
    b: float
    difference: float
    low: float
    """Where 95 % of the difference's bootstrap resamples begin."""
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A against B on the same targets."""

    events: int
    hit_rate: Difference
    ndcg: Difference
    mcnemar: McNemar
    """Of the hit rate."""


def compare(ranks_a_N: Floats, ranks_b_N: Floats, users_N: Integers, seed: int = 0) -> Comparison:
    """Compare ranks of the same targets; intervals are by bootstrap over users, as events of one are not independent.

    Ranks are those of `model.prequential`; users are numbers from 0. Percentile bootstrap of 1,000 resamples (Efron &
    Tibshirani 1993, section 13.3). Raises `ValueError` for no targets.
    """
    if len(ranks_a_N) == 0:
        raise ValueError("both must have ranked at least one target that is counted, got none")
    gains_a, gains_b = rank_gains(ranks_a_N), rank_gains(ranks_b_N)
    hits_a, hits_b = gains_a[:, 1] == 1, gains_b[:, 1] == 1
    return Comparison(
        events=len(ranks_a_N),
        hit_rate=_difference(gains_a[:, 1], gains_b[:, 1], users_N, seed),
        ndcg=_difference(gains_a[:, 2], gains_b[:, 2], users_N, seed),
        mcnemar=mcnemar(int(np.sum(hits_a & ~hits_b)), int(np.sum(hits_b & ~hits_a))),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowComparison:
    """A against B on targets that follow each other."""

    first: int
    """Place of the window's first target among those compared."""
    events: int
    hit_rate_a: float
    hit_rate_b: float
    mcnemar: McNemar


def sliding_windows(ranks_a_N: Floats, ranks_b_N: Floats, size: int) -> Iterator[WindowComparison]:
    """Compare windows of `size` targets, each beginning half a window after the one before; what is left over is not.

    Prequential comparison by McNemar's test over a sliding window: Vinagre, Jorge & Gama 2015 (arXiv 1504.08175).
    Raises `ValueError` for a size below 2.
    """
    if size < 2:
        raise ValueError(f"window must be >= 2 targets, got {size}")
    hits_a_N, hits_b_N = rank_gains(ranks_a_N)[:, 1] == 1, rank_gains(ranks_b_N)[:, 1] == 1
    for first in range(0, len(ranks_a_N) - size + 1, size // 2):
        a, b = hits_a_N[first : first + size], hits_b_N[first : first + size]
        yield WindowComparison(
            first=first,
            events=size,
            hit_rate_a=float(a.mean()),
            hit_rate_b=float(b.mean()),
            mcnemar=mcnemar(int(np.sum(a & ~b)), int(np.sum(b & ~a))),
        )


def _difference(gains_a_N: Floats, gains_b_N: Floats, users_N: Integers, seed: int) -> Difference:
    difference_U = np.bincount(users_N, gains_a_N - gains_b_N)
    events_U = np.bincount(users_N)
    draws, resampled = np.random.default_rng(seed), np.zeros(_RESAMPLES)
    for number in range(_RESAMPLES):
        drawn_U = draws.integers(len(events_U), size=len(events_U))
        resampled[number] = difference_U[drawn_U].sum() / max(1, events_U[drawn_U].sum())
    low, high = np.quantile(resampled, _QUANTILES).tolist()
    a, b = float(gains_a_N.mean()), float(gains_b_N.mean())
    return Difference(a=a, b=b, difference=a - b, low=low, high=high)
