"""Pointwise attention on CUDA: what the Triton kernels are given, and their gradient.

Shapes: T tokens, h heads, d features of queries and keys, e features of values, P tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.bias import NUM_TIME_BUCKETS, bucket_edges
from model.layout import Integers, Layout
from model.triton_kernels import forward_kernel, key_kernel, query_kernel

NUM_TABLES = 64
"""Copies of the tables that programs add their gradients to."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """A layout on the device, with the tiles that programs work on."""

    seconds_T: Tensor
    query_seconds_T: Tensor
    positions_T: Tensor
    firsts_T: Tensor
    ends_T: Tensor
    queries_P6: Tensor
    """Of each tile of queries: the sequence's first token; first and last query; first and last key that any sees
    ("last" is one past); number of history tokens."""
    keys_P5: Tensor
    """Of each tile of history keys: the sequence's first token; first and last key; first and last query."""
    edges: Tensor
    """First number of seconds in each time bucket, and in none."""
    rows: int
    """Queries, and keys, in a tile."""

    @classmethod
    def of(cls, layout: Layout, device: torch.device, rows: int = 32) -> "Tiles":
        """The layout cut into tiles of `rows`, a power of two >= 16."""
        columns = (layout.positions_T, layout.first_T, layout.end_T, *_tiles(layout, rows))
        positions, firsts, ends, queries, keys = (torch.from_numpy(x.astype(np.int32)).to(device) for x in columns)
        seconds, asked = (torch.from_numpy(x).to(device) for x in (layout.seconds_T, layout.query_seconds_T))
        edges = torch.tensor(bucket_edges(), device=device)
        return cls(seconds, asked, positions, firsts, ends, queries, keys, edges, rows)

    def columns(self) -> tuple[Tensor, ...]:
        """What all kernels are given of the tokens."""
        return self.seconds_T, self.query_seconds_T, self.positions_T, self.firsts_T, self.ends_T


class TritonAttention(torch.autograd.Function):
    """Sum over the keys that each token sees of SiLU(score) / divisor times the key's value."""

    @staticmethod
    def forward(
        ctx: Any,
        q_Thd: Tensor,
        k_Thd: Tensor,
        v_The: Tensor,
        position: Tensor | None,
        time: Tensor | None,
        tiles: Tiles,
        divisor: float,
    ) -> Tensor:
        """The sums [T, h, e]."""
        values = (q_Thd.contiguous(), k_Thd.contiguous(), v_The.contiguous())
        tables = _tables(position, time, q_Thd)
        ctx.save_for_backward(*values, tables)
        ctx.tiles, ctx.divisor, ctx.with_bias = tiles, divisor, position is not None
        out_The = torch.empty_like(values[2])
        _launch(forward_kernel, tiles.queries_P6, q_Thd, v_The)(
            *values, out_The, *tiles.columns(), tiles.queries_P6, tables, tiles.edges,
            *_sizes(q_Thd, v_The), **_shapes(q_Thd, v_The, tiles, ctx.with_bias),
        )  # fmt: skip
        return out_The.div_(divisor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys, values and both tables."""
        *values, tables = ctx.saved_tensors
        q_Thd, _, v_The = values
        tiles, dout_The = ctx.tiles, (grads[0] / ctx.divisor).contiguous()
        dq, dk, dv = (torch.empty_like(x) for x in values)
        dtables = tables.new_zeros(NUM_TABLES, len(tables))
        sizes, shapes = _sizes(q_Thd, v_The), _shapes(q_Thd, v_The, tiles, ctx.with_bias)
        _launch(query_kernel, tiles.queries_P6, q_Thd, v_The)(
            *values, dout_The, dq, dk, dv, *tiles.columns(), tiles.queries_P6, tables, dtables, tiles.edges,
            *sizes, NUM_TABLES, len(tables), **shapes,
        )  # fmt: skip
        _launch(key_kernel, tiles.keys_P5, q_Thd, v_The)(
            *values, dout_The, dk, dv, *tiles.columns(), tiles.keys_P5, tables, tiles.edges, *sizes, **shapes
        )
        if not ctx.with_bias:
            return dq, dk, dv, None, None, None, None
        dtime, dposition = dtables.sum(0).split([NUM_TIME_BUCKETS + 1, len(tables) - NUM_TIME_BUCKETS - 1])
        return dq, dk, dv, dposition, dtime, None, None


def _tiles(layout: Layout, rows: int) -> tuple[Integers, Integers]:
    """Tiles of queries [P, 6] and of keys [P, 5], as `Tiles` has them."""
    queries, keys = [], []
    for run in layout.runs:
        for number in range(run.count):
            start = run.start + number * run.length
            first_n, end_n = (x[start : start + run.length] for x in (layout.first_T, layout.end_T))
            for low in range(0, run.length, rows):
                high = min(low + rows, run.length)
                first, end = int(first_n[low:high].min()), int(end_n[low:high].max())
                queries.append((start, low, high, first, end, run.num_history))
            for low in range(0, run.num_history, rows):
                high = min(low + rows, run.num_history)
                seeing = np.flatnonzero((first_n < high) & (end_n > low))
                keys.append((start, low, high, int(seeing[0]), int(seeing[-1]) + 1))
    return np.array(queries).reshape(-1, 6), np.array(keys).reshape(-1, 5)


def _tables(position: Tensor | None, time: Tensor | None, like: Tensor) -> Tensor:
    """Both tables as one in float32, times first; a single 0 where there are none."""
    if position is None or time is None:
        return like.new_zeros(1, dtype=torch.float32)
    return torch.cat([time, position]).float()


def _launch(kernel: Any, tiles_P: Tensor, q_Thd: Tensor, v_The: Tensor) -> Callable[..., None]:
    launch: Callable[..., None] = kernel[len(tiles_P), q_Thd.shape[1]]
    return launch


def _sizes(q_Thd: Tensor, v_The: Tensor) -> tuple[int, int, int]:
    return q_Thd.shape[1], q_Thd.shape[2], v_The.shape[2]


def _shapes(q_Thd: Tensor, v_The: Tensor, tiles: Tiles, with_bias: bool) -> dict[str, int | bool]:
    widths = {name: max(16, 1 << (x.shape[2] - 1).bit_length()) for name, x in (("D", q_Thd), ("E", v_The))}
    return {"M": tiles.rows, "N": tiles.rows, **widths, "WITH_BIAS": with_bias}
