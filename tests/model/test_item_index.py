"""The nearest items, exactly and by clusters: what is found, in which order, and that nothing is lost."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.item_index import LEAST_RECALL, ClusteredIndex, ExactIndex, item_index


def unit(count: int, *, seed: int = 0, dim: int = 16) -> Tensor:
    """Vectors around some middles, as items of one kind lie together."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(60, dim))
    vectors = middles[rng.integers(60, size=count)] + 0.5 * rng.normal(size=(count, dim))
    return F.normalize(torch.from_numpy(vectors.astype(np.float32)))


def bias(count: int) -> Tensor:
    """What is added to each item, whoever asks."""
    return torch.from_numpy(np.random.default_rng(5).exponential(0.02, count).astype(np.float32))


@pytest.fixture(scope="module")
def items() -> Tensor:
    return unit(20_000)


@pytest.fixture(scope="module")
def clustered(items: Tensor) -> ClusteredIndex:
    return ClusteredIndex(items, bias(len(items)))


def test_most_of_the_nearest_are_found_by_looking_at_few(items: Tensor, clustered: ClusteredIndex) -> None:
    """An index that found half of what it should would answer as fast."""
    exact = ExactIndex(items, bias(len(items)))
    assert clustered.figures.num_looked_at < clustered.figures.num_clusters / 4
    recalls = []
    for query_D in F.normalize(items[:50] + items[50:100] + items[100:150]):
        wanted = {row for (row, _), _ in zip(exact.best_first(query_D, 100), range(100), strict=False)}
        found = {row for (row, _), _ in zip(clustered.best_first(query_D, 100), range(100), strict=False)}
        recalls.append(len(wanted & found) / 100)
    assert np.mean(recalls) > 0.85
    assert clustered.figures.recall >= LEAST_RECALL
    assert f"recall@100 {clustered.figures.recall:.3f}" in clustered.report


def test_every_item_comes_once_whatever_was_looked_at(items: Tensor, clustered: ClusteredIndex) -> None:
    """Where the first ones are not to be had, an answer would run dry beside items that are."""
    query_D = unit(1, seed=2)[0]
    pairs = list(clustered.best_first(query_D, 10))
    rows = [row for row, _ in pairs]
    assert sorted(rows) == list(range(len(items)))
    scores = np.array([score for _, score in pairs])
    assert (np.diff(scores[:10]) <= 0).all()
    assert (np.diff(scores[10:]) <= 0).all()
    np.testing.assert_allclose(scores, (items @ query_D + bias(len(items))).numpy()[rows], atol=1e-6)


def test_a_query_that_is_not_finite_finds_nothing_finite(clustered: ClusteredIndex) -> None:
    row, score = next(clustered.best_first(torch.full((16,), torch.nan), 5))
    assert 0 <= row < 20_000
    assert not np.isfinite(score)


def test_an_index_is_used_above_a_size_and_with_faiss_alone(items: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is missing, the answers are right and the log says what is slow."""
    assert isinstance(item_index(items, bias(len(items)), None), ExactIndex)
    assert isinstance(item_index(items, bias(len(items)), len(items)), ExactIndex)
    assert isinstance(item_index(items[:500], bias(500), 499), ClusteredIndex)
    monkeypatch.setattr("model.item_index.find_spec", lambda _: None)
    index = item_index(items, bias(len(items)), 19_999)
    assert isinstance(index, ExactIndex)
    assert index.report == (
        "20,000 items, all looked at (an index of clusters needs faiss: pip install 'headwater[faiss]')"
    )


def test_few_items_are_one_cluster() -> None:
    """faiss refuses to learn clusters from fewer vectors than there are clusters."""
    few = unit(3)
    index = item_index(few, bias(3), 2)
    assert next(row for row, _ in index.best_first(few[1], 3)) == 1
    assert len(list(index.best_first(few[1], 1))) == 3
