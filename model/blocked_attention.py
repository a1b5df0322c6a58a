"""Attention one block of queries at a time, in plain torch: scores are computed again for the gradient, never kept.

Shapes: T tokens, h heads, d features of queries and keys, e features of values, S sequences of a chunk, X = S * h,
n tokens of each, R queries of a block, K its keys, C its columns (K, or K + 1 where each query sees itself apart).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model.blocks import HIDDEN, Block, Chunk


class BlockedAttention(torch.autograd.Function):
    """Sum over the keys that each token sees of its weight times the key's value; see `model.attention`."""

    @staticmethod
    def forward(
        ctx: Any,
        q_Thd: Tensor,
        k_Thd: Tensor,
        v_The: Tensor,
        position: Tensor | None,
        time: Tensor | None,
        chunks: tuple[Chunk, ...],
        rule: "Rule",
    ) -> Tensor:
        """The sums [T, h, e]."""
        ctx.save_for_backward(q_Thd, k_Thd, v_The, position, time)
        ctx.chunks, ctx.rule = chunks, rule
        bias = BiasRows.of(position, time, chunks)
        out_The = torch.empty_like(v_The, memory_format=torch.contiguous_format)
        for chunk in chunks:
            part = Operands(chunk.split(q_Thd), chunk.split(k_Thd), chunk.split(v_The))
            out_Xne = torch.empty_like(part.v_Xne)
            for block in chunk.blocks:
                weights_XRC = rule.weights(part.scores(chunk, block, bias))
                out_Xne[:, block.low : block.high] = part.weighted_values(block, weights_XRC)
            chunk.merge(out_Xne, out_The)
        return out_The.div_(rule.divisor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys, values and both tables."""
        q_Thd, k_Thd, v_The, position, time = ctx.saved_tensors
        bias = BiasRows.of(position, time, ctx.chunks)
        slopes = None if bias is None else BiasSlopes(bias)
        dq_Thd, dk_Thd, dv_The = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q_Thd, k_Thd, v_The))
        dout_The = grads[0] / ctx.rule.divisor
        for chunk in ctx.chunks:
            part = Operands(chunk.split(q_Thd), chunk.split(k_Thd), chunk.split(v_The))
            slope = part.zero_slopes()
            dout_Xne = chunk.split(dout_The)
            for block in chunk.blocks:
                dout_XRe = dout_Xne[:, block.low : block.high]
                dweights_XRC = part.value_products(block, dout_XRe)
                weights_XRC, dscores_XRC = ctx.rule.slopes(part.scores(chunk, block, bias), dweights_XRC)
                part.add_slopes(slope, block, weights_XRC, dscores_XRC, dout_XRe)
                if slopes is not None:
                    slopes.add(chunk, block, dscores_XRC)
            chunk.merge(slope.q_Xnd, dq_Thd)
            chunk.merge(slope.k_Xnd, dk_Thd)
            chunk.merge(slope.v_Xne, dv_The)
        dposition, dtime = (None, None) if slopes is None else slopes.tables(position)
        return dq_Thd, dk_Thd, dv_The, dposition, dtime, None, None


@dataclass(frozen=True, slots=True)
class Rule:
    """From scores to weights: SiLU(score) / divisor, or a softmax over the keys that are seen."""

    softmax: bool
    divisor: float

    def weights(self, scores_XRC: Tensor) -> Tensor:
        """Weights, before the division; the scores' memory may be theirs now."""
        if self.softmax:
            return torch.softmax(scores_XRC, -1)
        return F.silu(scores_XRC, inplace=True)

    def slopes(self, scores_XRC: Tensor, dweights_XRC: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and the scores' gradients; the memory of both arguments may be theirs now."""
        if self.softmax:
            weights_XRC = torch.softmax(scores_XRC, -1)
            inner_XR1 = (dweights_XRC * weights_XRC).sum(-1, keepdim=True)
            return weights_XRC, dweights_XRC.sub_(inner_XR1).mul_(weights_XRC)
        gate_XRC = torch.sigmoid(scores_XRC)
        weights_XRC = scores_XRC.mul_(gate_XRC)
        # SiLU'(s) = g + SiLU(s) (1 - g) with g = sigmoid(s): one pass as an interpolation.
        one = torch.ones((), dtype=gate_XRC.dtype, device=gate_XRC.device).expand_as(gate_XRC)
        return weights_XRC, torch.lerp(weights_XRC, one, gate_XRC, out=gate_XRC).mul_(dweights_XRC)


@dataclass(frozen=True, slots=True)
class Operands:
    """Queries, keys and values of a chunk, or their gradients."""

    q_Xnd: Tensor
    k_Xnd: Tensor
    v_Xne: Tensor

    def scores(self, chunk: Chunk, block: Block, bias: "BiasRows | None") -> Tensor:
        """Scores [X, R, C] with the bias, HIDDEN where a key is not seen."""
        q_XRd = self.q_Xnd[:, block.low : block.high]
        scores_XRC = q_XRd.new_empty(*q_XRd.shape[:2], block.num_columns)
        scores_ShRC = scores_XRC.view(chunk.run.count, -1, *scores_XRC.shape[1:])
        if bias is not None:
            scores_ShRC.copy_(bias.block(chunk, block).unsqueeze(1))
        _add_products(scores_XRC, q_XRd, self.k_Xnd, block, beta=0 if bias is None else 1)
        if bias is None:
            block.hide(scores_ShRC.transpose(0, 1), HIDDEN)
        return scores_XRC

    def weighted_values(self, block: Block, weights_XRC: Tensor) -> Tensor:
        """Sum of weights times values, [X, R, e]."""
        num_keys = block.end - block.first
        out_XRe = weights_XRC[..., :num_keys] @ self.v_Xne[:, block.first : block.end]
        if block.num_targets:
            own = slice(block.high - block.num_targets, block.high)
            out_XRe[:, -block.num_targets :].addcmul_(
                weights_XRC[:, -block.num_targets :, num_keys:], self.v_Xne[:, own]
            )
        return out_XRe

    def value_products(self, block: Block, dout_XRe: Tensor) -> Tensor:
        """Gradient of the weights, [X, R, C]."""
        dweights_XRC = dout_XRe.new_empty(*dout_XRe.shape[:2], block.num_columns)
        _add_products(dweights_XRC, dout_XRe, self.v_Xne, block, beta=0)
        return dweights_XRC

    def zero_slopes(self) -> "Operands":
        """Room for gradients; those of keys and values lie in columns, as products add to them faster so."""
        k_Xnd, v_Xne = (x.new_zeros(x.transpose(1, 2).shape).transpose(1, 2) for x in (self.k_Xnd, self.v_Xne))
        return Operands(torch.empty_like(self.q_Xnd), k_Xnd, v_Xne)

    def add_slopes(
        self, slope: "Operands", block: Block, weights_XRC: Tensor, dscores_XRC: Tensor, dout_XRe: Tensor
    ) -> None:
        """Write this block's gradients of queries to `slope`, and add those of keys and values."""
        rows, keys, num_keys = slice(block.low, block.high), slice(block.first, block.end), block.end - block.first
        q_XRd, dscores_XRK = self.q_Xnd[:, rows], dscores_XRC[..., :num_keys]
        slope.q_Xnd[:, rows] = dscores_XRK @ self.k_Xnd[:, keys]
        slope.k_Xnd[:, keys].transpose(1, 2).baddbmm_(q_XRd.transpose(1, 2), dscores_XRK)
        slope.v_Xne[:, keys].transpose(1, 2).baddbmm_(dout_XRe.transpose(1, 2), weights_XRC[..., :num_keys])
        if block.num_targets:
            own, last = slice(block.high - block.num_targets, block.high), slice(-block.num_targets, None)
            downs_Xt1 = dscores_XRC[:, last, num_keys:]
            slope.q_Xnd[:, own].addcmul_(downs_Xt1, self.k_Xnd[:, own])
            slope.k_Xnd[:, own].addcmul_(downs_Xt1, q_XRd[:, last])
            slope.v_Xne[:, own].addcmul_(weights_XRC[:, last, num_keys:], dout_XRe[:, last])


def _add_products(out_XRC: Tensor, rows_XRf: Tensor, keys_Xnf: Tensor, block: Block, *, beta: int) -> None:
    """Out = beta * out + products of each row with the block's keys and, in the last column, with its own key."""
    num_keys = block.end - block.first
    out_XRC[..., :num_keys].baddbmm_(rows_XRf, keys_Xnf[:, block.first : block.end].transpose(1, 2), beta=beta)
    if block.num_targets:
        own_XR = (rows_XRf * keys_Xnf[:, block.low : block.high]).sum(-1)
        out_XRC[..., num_keys] = own_XR if beta == 0 else out_XRC[..., num_keys] + own_XR


@dataclass(frozen=True, slots=True)
class BiasRows:
    """Both tables, laid out so that a block's biases are gathered by rows."""

    reversed: Tensor
    """Biases of falling distances down to 0, then of 0 for every key behind a query."""
    time: Tensor
    """Biases of the time buckets, then HIDDEN."""
    window: int

    @classmethod
    def of(cls, position: Tensor | None, time: Tensor | None, chunks: tuple[Chunk, ...]) -> "BiasRows | None":
        """None where there are no tables."""
        if position is None or time is None:
            return None
        behind = position[:1].expand(max(chunk.run.num_history for chunk in chunks))
        hidden = torch.full_like(time[:1], HIDDEN)
        return cls(torch.cat([position.flip(0), behind]), torch.cat([time, hidden]), len(position) - 1)

    def starts(self, block: Block) -> Tensor:
        """Place in `reversed` of each query's first key, [S, R]."""
        return self.window + block.first - block.positions_SR

    def block(self, chunk: Chunk, block: Block) -> Tensor:
        """Biases [S, R, C], HIDDEN where a key is not seen."""
        buckets_SRC = chunk.buckets(block)
        num_keys, starts_SR = block.end - block.first, self.starts(block)
        bias_SRC = self.time.index_select(0, buckets_SRC.flatten()).view(buckets_SRC.shape)
        if num_keys:
            windows = self.reversed.as_strided((len(self.reversed) - num_keys + 1, num_keys), (1, 1))
            position_SRK = windows.index_select(0, starts_SR.flatten()).view(*starts_SR.shape, num_keys)
            bias_SRC[..., :num_keys] += position_SRK
        if block.num_targets:
            bias_SRC[..., num_keys:] += self.reversed[-1]
        return bias_SRC


class BiasSlopes:
    """Gradients of both tables, summed over blocks in float64."""

    def __init__(self, bias: BiasRows) -> None:
        self.bias = bias
        self.reversed = torch.zeros(len(bias.reversed), dtype=torch.float64, device=bias.time.device)
        self.time = torch.zeros(len(bias.time), dtype=torch.float64, device=bias.time.device)

    def add(self, chunk: Chunk, block: Block, dscores_XRC: Tensor) -> None:
        """Add a block's gradients of scores."""
        dbias_SRC = dscores_XRC.view(chunk.run.count, -1, *dscores_XRC.shape[1:]).sum(1)
        self.time += torch.bincount(chunk.buckets(block).flatten(), dbias_SRC.flatten(), len(self.time))
        num_keys, starts_SR = block.end - block.first, self.bias.starts(block)
        num_history = block.high - block.low - block.num_targets
        if num_history:
            sums = _diagonal_sums(dbias_SRC[:, :num_history, :num_keys].sum(0))
            last = int(self.bias.window + block.first - (block.low + num_history - 1))
            self.reversed[last : last + len(sums)] += sums
        if block.num_targets:
            index_SRK = starts_SR[:, num_history:, None] + torch.arange(num_keys, device=starts_SR.device)
            dtarget_SRK = dbias_SRC[:, num_history:, :num_keys].sum_to_size(index_SRK.shape)
            self.reversed += torch.bincount(index_SRK.flatten(), dtarget_SRK.flatten(), len(self.reversed))
            self.reversed[-1] += dbias_SRC[..., num_keys:].sum()

    def tables(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the position and the time table."""
        window = self.bias.window
        position = self.reversed[: window + 1].flip(0)
        position[0] += self.reversed[window + 1 :].sum()
        return position.to(like.dtype), self.time[:-1].to(like.dtype)


def _diagonal_sums(x_RK: Tensor) -> Tensor:
    """Sums over each diagonal, from the bottom left one to the top right one, [R + K - 1].

    >>> _diagonal_sums(torch.tensor([[1, 2, 3], [4, 5, 6]])).tolist()
    [4, 6, 8, 3]
    """
    num_rows, num_keys = x_RK.shape
    sheared = x_RK.new_zeros(num_rows, num_keys + num_rows)
    sheared[:, :num_keys] = x_RK.flip(0)
    width = num_keys + num_rows - 1
    return sheared.flatten()[: num_rows * width].view(num_rows, width).sum(0)
