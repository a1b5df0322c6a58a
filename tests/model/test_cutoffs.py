import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import retrieval_reciprocal_rank
from torchmetrics.retrieval import RetrievalHitRate, RetrievalNormalizedDCG

from model.cutoffs import CUTOFFS, cutoff_figures


def test_figures_of_ranks_are_those_of_torchmetrics_on_whole_lists() -> None:
    """A discount or a cutoff off by one would make every published figure wrong."""
    num_items = 300
    ranks = np.random.default_rng(0).integers(1, num_items + 1, size=200)
    ranks[:30] = np.arange(1, 31) % 12 + 1
    scores = torch.arange(num_items, 0, -1, dtype=torch.float32).repeat(len(ranks))
    relevant = torch.zeros(len(ranks), num_items, dtype=torch.int64)
    relevant[torch.arange(len(ranks)), torch.from_numpy(ranks - 1)] = 1
    lists = torch.arange(len(ranks)).repeat_interleave(num_items)
    figures = cutoff_figures(ranks.astype(np.float64))
    for cutoff in CUTOFFS:
        hits, gain = RetrievalHitRate(top_k=cutoff), RetrievalNormalizedDCG(top_k=cutoff)
        assert figures[f"hr@{cutoff}"] == pytest.approx(float(hits(scores, relevant.flatten(), lists)), rel=1e-6)
        assert figures[f"ndcg@{cutoff}"] == pytest.approx(float(gain(scores, relevant.flatten(), lists)), rel=1e-6)
    reciprocals = [float(retrieval_reciprocal_rank(scores[:num_items], row)) for row in relevant]
    assert figures["mrr"] == pytest.approx(np.mean(reciprocals), rel=1e-6)


def test_targets_that_were_not_ranked_are_misses() -> None:
    """A model that gives NaN, or a target that is no candidate, would look good."""
    figures = cutoff_figures(np.array([1.0, np.inf, np.nan, 4.0]))
    assert figures["hr@200"] == 0.5
    assert figures["mrr"] == (1 + 1 / 4) / 4
    with pytest.raises(ValueError, match="empty"):
        cutoff_figures(np.zeros(0))
