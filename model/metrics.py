"""Figures of ranking and of probabilities, each in bounded memory."""

import numpy as np
import numpy.typing as npt

CUTOFF = 10
"""Ranks up to this count as hits."""
_NUM_BINS = 4_096
_MAX_LOGIT = 16.0

Floats = npt.NDArray[np.float64]


def rank_gains(ranks: Floats) -> Floats:
    """Columns (1, hit, discounted gain, reciprocal rank) of each rank; all but the first are 0 for inf and NaN.

    Ranks begin at 1 and may be halves (ties). Gain is 1 / log2(1 + rank) up to rank 10.

    >>> rank_gains(np.array([1.0, 3.0, 20.0, np.nan])).tolist()
    [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.5, 0.3333333333333333], [1.0, 0.0, 0.0, 0.05], [1.0, 0.0, 0.0, 0.0]]
    """
    finite = np.isfinite(ranks)
    safe = np.where(finite, ranks, 1.0)
    hit = finite & (safe <= CUTOFF)
    gain = np.where(hit, 1 / np.log2(1 + safe), 0.0)
    return np.stack([np.ones_like(safe), hit.astype(np.float64), gain, np.where(finite, 1 / safe, 0.0)], -1)


class BinaryFigures:
    """AUC and normalized entropy of predicted probabilities, from a fixed histogram over their logits.

    4,096 bins over [-16, 16]: two predictions in one bin, at most .008 apart in log odds, count as tied. Predictions
    that are not finite are counted apart and left out.
    """

    def __init__(self) -> None:
        self.histogram = np.zeros((2, _NUM_BINS))
        self.sums = np.zeros(2)
        """Log loss, and how many were not finite."""

    def update(self, logits: Floats, labels: npt.NDArray[np.bool_], late: npt.NDArray[np.bool_] | bool = False) -> None:
        """Count predictions and what came.

        A late one was counted as a negative before it came: of these, as many are taken back, as predicted now.
        """
        finite = np.isfinite(logits)
        self.sums[1] += np.count_nonzero(~finite)
        logits, labels, late = logits[finite], labels[finite], np.broadcast_to(late, labels.shape)[finite]
        place = (np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT) + _MAX_LOGIT) * (_NUM_BINS / (2 * _MAX_LOGIT))
        bins = np.minimum(place.astype(np.int64), _NUM_BINS - 1)
        np.add.at(self.histogram, (labels.astype(np.int64), bins), 1)
        np.subtract.at(self.histogram[0], bins[late], 1)
        self.sums[0] += np.logaddexp(0, np.where(labels, -logits, logits)).sum()
        self.sums[0] -= np.logaddexp(0, logits[late]).sum()

    def auc(self) -> float:
        """Share of (positive, negative) pairs in the right order, ties half; NaN where either is absent."""
        negatives, positives = self.histogram
        pairs = negatives.sum() * positives.sum()
        below = np.cumsum(negatives) - negatives
        return float((positives * (below + negatives / 2)).sum() / pairs) if pairs > 0 else float("nan")

    def normalized_entropy(self) -> float:
        """Mean log loss over the entropy of the base rate; NaN where a label is absent."""
        negatives, positives = self.histogram.sum(1)
        total = negatives + positives
        if negatives <= 0 or positives <= 0:
            return float("nan")
        rate = positives / total
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
        return float(self.sums[0] / total / entropy)

    @property
    def num_events(self) -> int:
        """Predictions counted, each exposure once."""
        return int(self.histogram.sum())
