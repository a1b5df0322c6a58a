"""The protocol of every prequential figure: score first, then learn; one rule, one meter, used everywhere.

Order       Events have one order. The score of an event comes from weights, history and candidates before it.
Target      Every event with an action; those with the positive action are a series beside it.
Candidates  Items with at least one event strictly earlier in that order. A target that is none is a miss, and counts.
Filter      Items that the user acted on earlier leave the candidates. A target among them is a repeat: a series of
            its own, not in the main one.
Rank        1 + others that score greater + half of those that score equal. A target whose score is not finite is a
            miss, and is counted as such; another item's NaN counts as greater.
Bar         Decayed popularity, ranked on the very same events and candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.metrics import BinaryFigures, Floats, rank_gains

NUM_BINS = 512
"""Bins of the curve over the stream; the last quarter is known to one part in 256 or better."""
MAIN, POSITIVES, REPEATS = range(3)
_EACH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """Scored targets in the order of the stream, as columns of one length."""

    numbers: npt.NDArray[np.int64]
    """Number of the event in the stream, from 0."""
    ranks: Floats
    """Rank by the model; inf where the target was no candidate, NaN where its score was not finite."""
    popularity_ranks: Floats
    positive: npt.NDArray[np.bool_]
    repeat: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesFigures:
    """Figures of one series; NaN where it has no events."""

    events: int
    hit_rate: float
    ndcg: float
    mrr: float
    popularity_hit_rate: float
    popularity_ndcg: float
    popularity_mrr: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PrequentialFigures:
    """All that a meter knows; rates are at rank 10."""

    main: SeriesFigures
    last_quarter: SeriesFigures
    """The main series over the last quarter of the stream so far."""
    positives: SeriesFigures
    repeats: SeriesFigures
    auc: float
    """Of the positive action, over all scored events, exposures without action among them. Each counts once, in the end
    as what became of it."""
    normalized_entropy: float
    ranked_events: int
    """Events that AUC and normalized entropy are over."""
    non_finite: int
    """Targets and predictions whose score was not finite."""


def candidate_ranks(
    scores_QI: npt.NDArray[np.floating],
    targets_Q: npt.NDArray[np.int64],
    candidates_QI: npt.NDArray[np.bool_],
) -> Floats:
    """Rank of each target among its candidates (see Rank above).

    >>> scores = np.array([[3.0, 1.0, 1.0, 2.0]])
    >>> candidate_ranks(scores, np.array([1]), np.array([[True, True, True, True]])).tolist()
    [3.5]
    >>> candidate_ranks(scores, np.array([1]), np.array([[True, False, True, True]])).tolist()
    [inf]
    """
    query = np.arange(len(targets_Q))
    own_Q1 = scores_QI[query, targets_Q][:, None]
    others_QI = candidates_QI.copy()
    others_QI[query, targets_Q] = False
    not_greater_QI = scores_QI <= own_Q1
    greater_Q = np.count_nonzero(others_QI & ~not_greater_QI, axis=1)
    equal_Q = np.count_nonzero(others_QI & (scores_QI == own_Q1), axis=1)
    ranks_Q: Floats = 1 + greater_Q + equal_Q / 2
    ranks_Q[~np.isfinite(own_Q1[:, 0])] = np.nan
    ranks_Q[~candidates_QI[query, targets_Q]] = np.inf
    return ranks_Q


class PrequentialMeter:
    """Adds up scored events in bounded memory.

    The curve over the stream is kept in bins of equal numbers of events; when they are used up, neighbours are
    merged and the bins are twice as wide.
    """

    def __init__(self) -> None:
        self.count_from = 0
        """Events with a smaller number are not counted (warm-up)."""
        self._bins = np.zeros((3, NUM_BINS, 2 * _EACH))
        self._width = 1
        self._num_events = 0
        self._non_finite = 0
        self._marked = np.zeros(2 * _EACH)
        self._binary = BinaryFigures()

    def update(self, targets: Targets) -> None:
        """Count scored targets."""
        counted = targets.numbers >= self.count_from
        if not counted.any():
            return
        numbers = targets.numbers[counted]
        self._widen(int(numbers.max()))
        place = numbers // self._width
        ranks = targets.ranks[counted]
        gains = np.concatenate([rank_gains(ranks), rank_gains(targets.popularity_ranks[counted])], -1)
        repeat, positive = targets.repeat[counted], targets.positive[counted]
        for series, chosen in ((MAIN, ~repeat), (POSITIVES, ~repeat & positive), (REPEATS, repeat)):
            np.add.at(self._bins[series], place[chosen], gains[chosen])
        self._non_finite += int(np.count_nonzero(np.isnan(ranks)))

    def update_labels(
        self,
        numbers: npt.NDArray[np.int64],
        logits: Floats,
        labels: npt.NDArray[np.bool_],
        late: npt.NDArray[np.bool_],
    ) -> None:
        """Count predicted log odds of the positive action, whether it came, if late (`BinaryFigures.update`)."""
        counted = numbers >= self.count_from
        self._binary.update(logits[counted], labels[counted], late[counted])

    def advance(self, num_events: int) -> None:
        """Note how long the stream is by now; the last quarter is the last quarter of it."""
        self._num_events = num_events

    def figures(self) -> PrequentialFigures:
        """Everything counted so far."""
        start = -(-3 * self._num_events // (4 * self._width))
        totals = self._bins.sum(1)
        return PrequentialFigures(
            main=_figures(totals[MAIN]),
            last_quarter=_figures(self._bins[MAIN, start:].sum(0)),
            positives=_figures(totals[POSITIVES]),
            repeats=_figures(totals[REPEATS]),
            auc=self._binary.auc(),
            normalized_entropy=self._binary.normalized_entropy(),
            ranked_events=self._binary.num_events,
            non_finite=self._non_finite + int(self._binary.sums[1]),
        )

    def since_last(self) -> SeriesFigures:
        """The main series since this was last called."""
        totals = self._bins[MAIN].sum(0)
        recent, self._marked = totals - self._marked, totals
        return _figures(recent)

    def state(self) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        numbers = [self.count_from, self._width, self._num_events, self._non_finite]
        return {
            "meter.bins": self._bins.copy(),
            "meter.numbers": np.array(numbers),
            "meter.marked": self._marked.copy(),
            "meter.histogram": self._binary.histogram.copy(),
            "meter.sums": self._binary.sums.copy(),
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self._bins, self._marked = arrays["meter.bins"].copy(), arrays["meter.marked"].copy()
        numbers = arrays["meter.numbers"].tolist()
        self.count_from, self._width, self._num_events, self._non_finite = numbers
        self._binary.histogram = arrays["meter.histogram"].copy()
        self._binary.sums = arrays["meter.sums"].copy()

    def _widen(self, number: int) -> None:
        while number // self._width >= NUM_BINS:
            merged = self._bins.reshape(3, NUM_BINS // 2, 2, 2 * _EACH).sum(2)
            self._bins = np.concatenate([merged, np.zeros_like(merged)], 1)
            self._width *= 2


def _figures(sums: Floats) -> SeriesFigures:
    events = sums[0]
    if not events:
        nan = float("nan")
        return SeriesFigures(
            events=0,
            hit_rate=nan,
            ndcg=nan,
            mrr=nan,
            popularity_hit_rate=nan,
            popularity_ndcg=nan,
            popularity_mrr=nan,
        )
    hit, ndcg, mrr, _, popularity_hit, popularity_ndcg, popularity_mrr = (float(value) for value in sums[1:] / events)
    return SeriesFigures(
        events=int(events),
        hit_rate=hit,
        ndcg=ndcg,
        mrr=mrr,
        popularity_hit_rate=popularity_hit,
        popularity_ndcg=popularity_ndcg,
        popularity_mrr=popularity_mrr,
    )


def join_targets(parts: Sequence[Targets]) -> Targets:
    """One after the other."""

    def column(name: str, kind: type) -> np.ndarray:
        return np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)])

    return Targets(
        numbers=column("numbers", np.int64),
        ranks=column("ranks", np.float64),
        popularity_ranks=column("popularity_ranks", np.float64),
        positive=column("positive", np.bool_),
        repeat=column("repeat", np.bool_),
    )
