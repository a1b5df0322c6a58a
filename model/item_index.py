"""The items that score best for a query: among all of them, or in a large catalogue among the nearest clusters.

An item's score is the product of its unit vector and the query, plus a bias of its own. Shapes: I items, D width.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.best_first import Floats32, best_first
from model.layout import Integers

LEAST_RECALL = 0.95
"""Of the nearest hundred, the share that a clustered index has to find; it looks at more clusters until it does."""
_NEAREST = 100
_TRIALS = 64
"""Pairs of items, between which is looked to measure that."""
_LEARNED_FROM = 50
"""Vectors a cluster that the clusters' middles are learned from; faiss wants at least 39."""


class ItemIndex(Protocol):
    """Items in the order of their scores."""

    report: str
    """What it is, in a line."""

    def best_first(self, query_D: Tensor, count: int) -> Iterator[tuple[int, float]]:
        """Row and score of all items, best first as far as the index can tell; the first `count` cost least."""

    def each_best_first(self, queries_QD: Tensor, count: int) -> list[Iterator[tuple[int, float]]]:
        """The same for several queries."""

    def scores(self, query_D: Tensor, rows: Integers) -> Floats32:
        """Of some items."""


class ExactIndex:
    """All items are looked at."""

    def __init__(self, unit_ID: Tensor, bias_I: Tensor, why: str = "") -> None:
        self._unit_ID, self._bias_I = unit_ID, bias_I
        self.report = f"{len(unit_ID):,} items, all looked at{why}"

    def best_first(self, query_D: Tensor, count: int) -> Iterator[tuple[int, float]]:
        """Row and score of all items, best first, equal ones in their order, what is not finite last."""
        return self.each_best_first(query_D.unsqueeze(0), count)[0]

    def each_best_first(self, queries_QD: Tensor, count: int) -> list[Iterator[tuple[int, float]]]:
        """The same for several queries: the items are read once for all of them."""
        scores_QI: Floats32 = torch.addmm(self._bias_I, queries_QD, self._unit_ID.T).numpy()
        return [self._in_order(scores_I, count) for scores_I in scores_QI]

    def scores(self, query_D: Tensor, rows: Integers) -> Floats32:
        """Of some items."""
        chosen = torch.from_numpy(rows)
        scores: Floats32 = (self._unit_ID[chosen] @ query_D + self._bias_I[chosen]).numpy()
        return scores

    @staticmethod
    def _in_order(scores_I: Floats32, count: int) -> Iterator[tuple[int, float]]:
        return ((row, float(scores_I[row])) for row in best_first(scores_I, count))


@dataclass(frozen=True, slots=True)
class IndexFigures:
    """What a clustered index is, and what it took."""

    num_items: int
    num_clusters: int
    num_looked_at: int
    recall: float
    """Share of the nearest hundred that is found, over middles of two items."""
    seconds: float
    """To build it."""


class ClusteredIndex:
    """Items by clusters of which the nearest few are looked at (inverted file; Jegou et al. 2011, with faiss)."""

    def __init__(self, unit_ID: Tensor, bias_I: Tensor, seed: int = 0) -> None:
        # Imported where a catalogue is large: it brings an OpenMP of its own.
        import faiss

        started, rng = time.perf_counter(), np.random.default_rng(seed)
        self._exact = ExactIndex(unit_ID, bias_I)
        # The bias is one more feature, of which every query has 1.
        vectors_ID = torch.cat([unit_ID, bias_I.unsqueeze(-1)], -1).numpy()
        num_items, dim = vectors_ID.shape
        num_clusters = max(1, min(int(np.sqrt(num_items)), num_items // _LEARNED_FROM))
        # Both live as long as the index: faiss does not keep what it is given.
        self._middles: Any = faiss.IndexFlatIP(dim)
        self._index: Any = faiss.IndexIVFFlat(self._middles, dim, num_clusters, faiss.METRIC_INNER_PRODUCT)
        faiss.omp_set_num_threads(1)  # the other cores are answering
        learned_from = np.sort(rng.choice(num_items, min(num_clusters * _LEARNED_FROM, num_items), replace=False))
        self._index.train(vectors_ID[learned_from])
        self._index.add(vectors_ID)
        # A user lies between the items that he may like, where an index finds less than around one of them.
        pairs = torch.from_numpy(rng.integers(num_items, size=(2, _TRIALS)))
        recall = self._tune(F.normalize(unit_ID[pairs].sum(0)))
        seconds = time.perf_counter() - started
        self.figures = IndexFigures(num_items, num_clusters, self._index.nprobe, recall, seconds)
        self.report = (
            f"{num_items:,} items in {num_clusters:,} clusters, {self._index.nprobe} looked at: "
            f"recall@{_NEAREST} {recall:.3f} of what lies between two items; built in {seconds:.1f} s"
        )

    def best_first(self, query_D: Tensor, count: int) -> Iterator[tuple[int, float]]:
        """Row and score of the items in the clusters nearest to the query, then of all others, best first."""
        seen: set[int] = set()
        for row, score in self._nearest(query_D, count):
            seen.add(row)
            yield row, score
        for row, score in self._exact.best_first(query_D, 2 * len(seen) + 1):
            if row not in seen:
                yield row, score

    def each_best_first(self, queries_QD: Tensor, count: int) -> list[Iterator[tuple[int, float]]]:
        """The same for several queries."""
        return [self.best_first(query_D, count) for query_D in queries_QD]

    def scores(self, query_D: Tensor, rows: Integers) -> Floats32:
        """Of some items."""
        return self._exact.scores(query_D, rows)

    def _nearest(self, query_D: Tensor, count: int) -> Iterator[tuple[int, float]]:
        query = np.append(query_D.numpy(), np.float32(1))[None]
        scores, rows = self._index.search(query, min(count, self._index.ntotal))
        pairs = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return ((row, score) for row, score in pairs if row >= 0)

    def _tune(self, queries_QD: Tensor) -> float:
        """Look at twice as many clusters until the recall is met; returns it."""
        wanted = [self._first(self._exact.best_first(query_D, _NEAREST)) for query_D in queries_QD]
        while True:
            found = [self._first(self._nearest(query_D, _NEAREST)) for query_D in queries_QD]
            hits = sum(len(one & other) for one, other in zip(wanted, found, strict=True))
            recall = hits / sum(map(len, wanted))
            if recall >= LEAST_RECALL or self._index.nprobe >= self._index.nlist:
                return recall
            self._index.nprobe = min(2 * self._index.nprobe, self._index.nlist)

    @staticmethod
    def _first(items: Iterator[tuple[int, float]]) -> set[int]:
        return {row for (row, _), _ in zip(items, range(_NEAREST), strict=False)}


def item_index(unit_ID: Tensor, bias_I: Tensor, exact_items: int | None) -> ItemIndex:
    """The index of a catalogue: exact up to so many items, and wherever faiss is missing."""
    if exact_items is None or len(unit_ID) <= exact_items:
        return ExactIndex(unit_ID, bias_I)
    if find_spec("faiss") is None:
        return ExactIndex(unit_ID, bias_I, " (an index of clusters needs faiss: pip install 'headwater[faiss]')")
    return ClusteredIndex(unit_ID, bias_I)
