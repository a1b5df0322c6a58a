"""Figures of ranks at several cutoffs, means over all targets.

HR@k is the share of ranks up to k, NDCG@k the mean of 1 / log2(1 + rank) where the rank is up to k, else 0, MRR the
mean of 1 / rank. There is one relevant item for each target.
"""

import numpy as np

from model.metrics import Floats

CUTOFFS = (10, 50, 200)


def cutoff_figures(ranks: Floats) -> dict[str, float]:
    """`hr@k`, `ndcg@k` and `mrr` of ranks from 1: halves for ties, inf or NaN for a miss.

    Raises `ValueError` for no ranks.

    >>> cutoff_figures(np.array([1.0, 3.0, 60.0, np.inf]))["ndcg@10"]
    0.375
    """
    if len(ranks) == 0:
        raise ValueError("ranks must not be empty")
    safe = np.where(np.isfinite(ranks), ranks, np.inf)
    gains = 1 / np.log2(1 + safe)
    figures = {f"hr@{cutoff}": float(np.mean(safe <= cutoff)) for cutoff in CUTOFFS}
    figures |= {f"ndcg@{cutoff}": float(np.mean(np.where(safe <= cutoff, gains, 0))) for cutoff in CUTOFFS}
    return {**figures, "mrr": float(np.mean(1 / safe))}
