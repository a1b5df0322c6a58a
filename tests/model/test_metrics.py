import math

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.functional.retrieval import (
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_reciprocal_rank,
)

from model.metrics import BinaryFigures, rank_gains


def test_gains_of_ranks_equal_torchmetrics_on_the_same_lists() -> None:
    """A discount off by one would make every published figure wrong."""
    for rank in range(1, 15):
        scores, target = torch.linspace(1, 0, 20), torch.zeros(20, dtype=torch.int64)
        target[rank - 1] = 1
        _, hit, gain, reciprocal = rank_gains(np.array([float(rank)]))[0]
        assert hit == float(retrieval_hit_rate(scores, target, top_k=10))
        assert math.isclose(gain, float(retrieval_normalized_dcg(scores, target, top_k=10)), rel_tol=1e-6)
        assert math.isclose(reciprocal, float(retrieval_reciprocal_rank(scores, target)), rel_tol=1e-6)


def test_auc_and_entropy_from_the_histogram_equal_the_exact_ones() -> None:
    """Bounded memory must not cost the third digit."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=5_000) * 2
    labels = rng.random(5_000) < 1 / (1 + np.exp(-(logits + rng.normal(size=5_000))))
    figures = BinaryFigures()
    for part in np.array_split(np.arange(5_000), 7):
        figures.update(logits[part], labels[part])
    exact = float(binary_auroc(torch.from_numpy(logits), torch.from_numpy(labels.astype(np.int64))))
    assert math.isclose(figures.auc(), exact, abs_tol=5e-4)
    probability, rate = 1 / (1 + np.exp(-logits)), labels.mean()
    loss = -np.where(labels, np.log(probability), np.log(1 - probability)).mean()
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    assert math.isclose(figures.normalized_entropy(), loss / entropy, rel_tol=1e-9)


def test_what_comes_late_takes_the_place_of_a_negative() -> None:
    """An event would count twice, once as what it was not: at a rate of .2, a model that tells .2 would look biased."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=500), rng.random(500) < 0.2
    nothing = np.zeros(500, np.bool_)
    late, in_time = BinaryFigures(), BinaryFigures()
    late.update(logits, nothing)
    late.update(logits[labels], labels[labels], labels[labels])
    in_time.update(logits, labels)
    assert np.array_equal(late.histogram, in_time.histogram)
    assert (late.auc(), late.num_events) == (in_time.auc(), 500)
    assert math.isclose(late.normalized_entropy(), in_time.normalized_entropy())


def test_figures_of_more_late_labels_than_negatives_are_nan() -> None:
    """Where counting began between an exposure and its action, shares would be of less than nothing."""
    figures = BinaryFigures()
    figures.update(np.zeros(3), np.ones(3, np.bool_), np.array([True, True, False]))
    assert math.isnan(figures.auc())
    assert math.isnan(figures.normalized_entropy())


def test_constant_predictions_have_an_auc_of_one_half_and_nan_is_left_out() -> None:
    """A rule that gives constant or NaN scores a good figure hides a dead model."""
    figures = BinaryFigures()
    figures.update(np.zeros(100), np.arange(100) % 4 == 0)
    figures.update(np.full(50, np.nan), np.ones(50, dtype=np.bool_))
    assert figures.auc() == 0.5
    assert figures.sums[1] == 50
    assert figures.num_events == 100
