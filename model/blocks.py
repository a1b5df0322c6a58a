"""A layout cut into blocks of queries, so that scores exist for one block at a time.

Shapes: S sequences of one length, n that length, R queries of a block, C its columns (keys; then, if there are
targets among the queries, each query itself), h heads, d features, T tokens, X = S * h.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from model.bias import HIDDEN_BUCKET, time_buckets
from model.layout import Integers, Layout, Run

BLOCK_ROWS = 64
"""Queries in a block; the last one of a history has its targets too if there are no more of them than this."""
HIDDEN = -1e30
"""Score of a key that is not seen: SiLU and its slope are 0 there, and so is its share of a softmax."""
_CHUNK_CELLS = 131_072
"""Pairs of query and key, about, in one block of all sequences of a chunk."""
_KEPT_CELLS = 8_388_608
"""Up to so many pairs of a batch, four bytes each, their time buckets are kept from one layer to the next."""


@dataclass(frozen=True, slots=True)
class Block:
    """Queries [low, high) of every sequence in a chunk and the keys [first, end) that any of them sees.

    All indexes count from the first token of each sequence. Columns of tensors have S = 1 where all sequences agree.
    """

    low: int
    high: int
    first: int
    end: int
    num_targets: int
    """How many of the queries, the last ones, are targets. If any, each query itself is one more column."""
    firsts_SR: Tensor
    """First key that each query sees."""
    ends_SR: Tensor
    """One past the last key that each query sees."""
    hidden: tuple[tuple[int, int], ...]
    """Ranges of columns that some query does not see."""
    positions_SR: Tensor
    buckets_SRC: Tensor | None
    """What `Chunk.buckets` gives, if it is kept."""

    @property
    def num_columns(self) -> int:
        """C."""
        return self.end - self.first + (self.num_targets > 0)

    def hide(self, scores_SRC: Tensor, value: float) -> None:
        """Write `value` over the entries [..., R, C] of keys that are not seen."""
        for low, high in self.hidden:
            key_C = torch.arange(self.first + low, self.first + high, device=scores_SRC.device)
            unseen_SRC = (key_C < self.firsts_SR.unsqueeze(-1)) | (key_C >= self.ends_SR.unsqueeze(-1))
            scores_SRC[..., low:high].masked_fill_(unseen_SRC, value)
        if self.num_targets:
            # A history token has itself among its keys already.
            scores_SRC[..., : self.high - self.low - self.num_targets, -1] = value


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring sequences of one length that are worked on together, as batched matrix products."""

    run: Run
    blocks: tuple[Block, ...]
    seconds_Sn: Tensor
    query_seconds_Sn: Tensor

    def split(self, values_Thd: Tensor) -> Tensor:
        """A chunk's own part of [T, h, d] as [X, n, d]; a view if it is one sequence."""
        return self._part(values_Thd).transpose(1, 2).flatten(0, 1)

    def merge(self, part_Xnd: Tensor, values_Thd: Tensor) -> None:
        """Write [X, n, d] over this chunk's part of [T, h, d]."""
        part_Shnd = part_Xnd.view(self.run.count, -1, *part_Xnd.shape[1:])
        self._part(values_Thd).copy_(part_Shnd.transpose(1, 2))

    def buckets(self, block: Block) -> Tensor:
        """Time bucket of each query's time minus each column's, int32 [S, R, C]; HIDDEN_BUCKET where not seen."""
        if block.buckets_SRC is not None:
            return block.buckets_SRC
        rows = slice(block.low, block.high)
        queries_SR = self.query_seconds_Sn[:, rows]
        seconds_SRC = queries_SR.unsqueeze(-1) - self.seconds_Sn[:, None, block.first : block.end]
        if block.num_targets:
            own_SR = queries_SR - self.seconds_Sn[:, rows]
            seconds_SRC = torch.cat([seconds_SRC, own_SR.unsqueeze(-1)], -1)
        buckets_SRC = time_buckets(seconds_SRC)
        block.hide(buckets_SRC, HIDDEN_BUCKET)
        return buckets_SRC

    def _part(self, values_Thd: Tensor) -> Tensor:
        run = self.run
        tokens = slice(run.start, run.start + run.count * run.length)
        return values_Thd[tokens].view(run.count, run.length, *values_Thd.shape[1:])


def cut_into_chunks(layout: Layout, device: torch.device, *, with_times: bool) -> tuple[Chunk, ...]:
    """The layout in chunks; time buckets are computed ahead if they will be read and take little memory."""
    parts = [chunk for run in layout.runs for chunk in _chunks(layout, run, device)]
    cells = sum(chunk.run.count * (b.high - b.low) * b.num_columns for chunk in parts for b in chunk.blocks)
    if cells > _KEPT_CELLS or not with_times:
        return tuple(parts)
    return tuple(
        dataclasses.replace(
            chunk, blocks=tuple(dataclasses.replace(b, buckets_SRC=chunk.buckets(b)) for b in chunk.blocks)
        )
        for chunk in parts
    )


def _chunks(layout: Layout, run: Run, device: torch.device) -> Iterator[Chunk]:
    size = max(1, _CHUNK_CELLS // (min(run.length, BLOCK_ROWS) * run.num_history))
    for low in range(0, run.count, size):
        part = Run(run.start + low * run.length, min(size, run.count - low), run.length, run.num_history)
        blocks = tuple(_block(layout, part, low, high, device) for low, high in pairwise(_edges(run)))
        seconds, queries = part.cut(layout.seconds_T), part.cut(layout.query_seconds_T)
        yield Chunk(part, blocks, torch.from_numpy(seconds).to(device), torch.from_numpy(queries).to(device))


def _edges(run: Run) -> list[int]:
    """Where blocks of queries begin, and the end."""
    history = [*range(0, run.num_history, BLOCK_ROWS)]
    targets = [*range(run.num_history, run.length, BLOCK_ROWS)]
    if history and len(targets) == 1:
        targets = []
    return [*history, *targets, run.length]


def _block(layout: Layout, run: Run, low: int, high: int, device: torch.device) -> Block:
    firsts_SR, ends_SR = run.cut(layout.first_T)[:, low:high], run.cut(layout.end_T)[:, low:high]
    first = int(firsts_SR.min())
    end = max(int(ends_SR.max()), first)
    all_first, all_end = min(int(firsts_SR.max()), end), max(int(ends_SR.min()), first)
    left, right = (0, all_first - first), (max(all_end, all_first) - first, end - first)
    return Block(
        low,
        high,
        first,
        end,
        max(0, high - max(low, run.num_history)),
        _shared(firsts_SR, device),
        _shared(ends_SR, device),
        tuple(columns for columns in (left, right) if columns[0] < columns[1]),
        _shared(run.cut(layout.positions_T)[:, low:high], device),
        None,
    )


def _shared(column_SR: Integers, device: torch.device) -> Tensor:
    """The column as a tensor, one row of it where all rows are equal."""
    agree = bool(np.all(column_SR[1:] == column_SR[:1]))
    return torch.from_numpy(np.ascontiguousarray(column_SR[:1] if agree else column_SR)).to(device)
