"""One step on the rows of a large table: forward, backward, update; ours beside FBGEMM's on the CPU and a dense AdamW.

    python -m tests.benchmarks.row_updates [--fbgemm FOLDER]

FOLDER is where `pip install --no-deps --target FOLDER fbgemm-gpu-cpu` put it. Ids are drawn by Zipf's law; the loss is
the sum of the gathered rows times fixed weights. One thread; rounds in turns; medians.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deploy.json_file import write_json
from model.item_table import ItemTable

NUM_ROWS, DIM, NUM_IDS = 1_000_000, 64, 25_600
_SKEW = 1.2


def main() -> int:
    """Measure, print and write figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fbgemm", type=Path, help="folder with fbgemm_gpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    draws = [torch.from_numpy(rng.zipf(_SKEW, NUM_IDS) % NUM_ROWS) for _ in range(given.rounds + 1)]
    weights_ND = torch.randn(NUM_IDS, DIM, generator=torch.Generator().manual_seed(0))
    steps: dict[str, Callable[[torch.Tensor], None]] = {
        "rows": our_step(weights_ND),
        "dense": dense_step(weights_ND, fused=False),
        "fused_dense": dense_step(weights_ND, fused=True),
    }
    if given.fbgemm:
        sys.path.append(str(given.fbgemm))
        steps["fbgemm"] = fbgemm_step(weights_ND)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for draw in draws:
        for name, step in steps.items():
            started = time.perf_counter()
            step(draw)
            taken[name].append(time.perf_counter() - started)
    # The first round touches pages for the first time.
    medians = {f"{name}_ms": 1e3 * statistics.median(each[1:]) for name, each in taken.items()}
    figures = medians | {
        "unique_ids": float(np.mean([len(np.unique(draw)) for draw in draws])),
        "dense_over_rows": medians["dense_ms"] / medians["rows_ms"],
        "fused_dense_over_rows": medians["fused_dense_ms"] / medians["rows_ms"],
        "rows_over_fbgemm": medians["rows_ms"] / medians["fbgemm_ms"] if given.fbgemm else float("nan"),
    }
    print(json.dumps(figures, indent=2))
    write_json(given.json, figures)
    return 0


def our_step(weights_ND: torch.Tensor) -> Callable[[torch.Tensor], None]:
    """Distinct rows as a leaf, and row-wise AdaGrad that fades."""
    table = ItemTable(DIM, NUM_ROWS, 0.05, torch.Generator().manual_seed(0), torch.device("cpu"))
    table.weight.normal_(std=0.02)

    def step(ids: torch.Tensor) -> None:
        rows_U, place_N = torch.unique(ids, return_inverse=True)
        leaf_UD = table.gather(rows_U)
        torch.autograd.backward((leaf_UD[place_N] * weights_ND).sum())
        assert leaf_UD.grad is not None
        table.learn(rows_U, leaf_UD.grad)

    return step


def dense_step(weights_ND: torch.Tensor, *, fused: bool) -> Callable[[torch.Tensor], None]:
    """An embedding of all rows and torch's AdamW over it, as it comes or as one kernel."""
    table = torch.nn.Parameter(torch.randn(NUM_ROWS, DIM) * 0.02)
    adam = torch.optim.AdamW([table], lr=0.003, fused=fused)

    def step(ids: torch.Tensor) -> None:
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward((table[ids] * weights_ND).sum())
        adam.step()

    return step


def fbgemm_step(weights_ND: torch.Tensor) -> Callable[[torch.Tensor], None]:
    """Its table-batched embedding with exact row-wise AdaGrad, which sorts, reduces and updates in one kernel."""
    from fbgemm_gpu.split_embedding_configs import EmbOptimType  # type: ignore[import-not-found]  # of FOLDER
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import (  # type: ignore[import-not-found]  # as above
        EmbeddingLocation,
        PoolingMode,
    )
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (  # type: ignore[import-not-found]  # as above
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    tables: Any = SplitTableBatchedEmbeddingBagsCodegen(
        [(NUM_ROWS, DIM, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=0.05,
        pooling_mode=PoolingMode.SUM,
    )
    offsets = torch.arange(NUM_IDS + 1)

    def step(ids: torch.Tensor) -> None:
        torch.autograd.backward((tables(ids, offsets) * weights_ND).sum())

    return step


if __name__ == "__main__":
    sys.exit(main())
