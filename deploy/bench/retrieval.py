"""`headwater bench retrieval`: the best of a large catalogue, looked for among all items and among nearby clusters.

Shapes: I items, D width.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.item_index import ClusteredIndex, ExactIndex, ItemIndex

Say = Callable[[str], None]
NEAREST = 100
KINDS = 3_000
"""Middles around which items lie."""
QUERIES = 200


def run_retrieval_bench(num_items: int, dim: int, say: Say) -> dict[str, Any]:
    """Times of both in turns, on one thread, over queries between three items each, and what the clusters miss."""
    torch.set_num_threads(1)
    item_ID, query_QD = made_catalogue(num_items, dim)
    bias_I = torch.zeros(num_items)
    clustered = ClusteredIndex(item_ID, bias_I)
    say(clustered.report)
    indexes: tuple[ItemIndex, ItemIndex] = (ExactIndex(item_ID, bias_I), clustered)
    times: tuple[list[float], list[float]] = ([], [])
    recalls = []
    for query_D in query_QD:
        found = []
        for index, taken in zip(indexes, times, strict=True):
            started = time.perf_counter()
            found.append(nearest(index, query_D))
            taken.append(time.perf_counter() - started)
        recalls.append(len(found[0] & found[1]) / len(found[0]))
    exact_ms, clustered_ms = (statistics.median(taken) * 1e3 for taken in times)
    recall = float(np.mean(recalls))
    say(
        f"{num_items:,} items of {dim} features, the best {NEAREST} for {QUERIES} queries: {clustered_ms:.2f} ms "
        f"against {exact_ms:.2f} ms among all ({exact_ms / clustered_ms:.1f} times faster), recall {recall:.3f}"
    )
    return {
        "items": num_items,
        "dim": dim,
        "exact_ms": exact_ms,
        "clustered_ms": clustered_ms,
        "ratio": exact_ms / clustered_ms,
        "recall": recall,
        "index": asdict(clustered.figures),
    }


def nearest(index: ItemIndex, query_D: Tensor) -> set[int]:
    """Rows of the nearest items."""
    return {row for row, _ in islice(index.best_first(query_D, NEAREST), NEAREST)}


def made_catalogue(num_items: int, dim: int) -> tuple[Tensor, Tensor]:
    """Unit vectors of items of some kinds, and queries each of which lies between three items."""
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(KINDS, dim)).astype(np.float32)
    vectors = middles[rng.integers(KINDS, size=num_items)]
    vectors += 0.7 * rng.standard_normal(vectors.shape, np.float32)
    item_ID = F.normalize(torch.from_numpy(vectors))
    chosen = torch.from_numpy(rng.integers(num_items, size=(3, QUERIES)))
    return item_ID, F.normalize(item_ID[chosen].sum(0))
