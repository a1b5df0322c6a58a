"""`headwater bench attention`: blocked attention held against the naive one of the published code, in one run.

Shapes: B sequences of one length N, T = B * N tokens, h heads, d features.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deploy.bench.peak_memory import peak_memory_bytes, reset_peak_memory
from model.attention import AttentionPlan, interval_attention
from model.bias import RelativeBias, time_buckets
from model.blocked_attention import Rule
from model.layout import Layout, next_seconds, sequence_layout

Say = Callable[[str], None]
_YEAR_SECONDS = 365 * 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionShape:
    """A batch of full sequences."""

    batch: int
    length: int
    heads: int
    dim: int
    """Features of each head."""
    goal: float
    """Times that blocked attention is to be faster than the naive one."""


SHAPES = (
    AttentionShape(batch=8, length=512, heads=4, dim=32, goal=2.3),
    AttentionShape(batch=2, length=1_024, heads=4, dim=32, goal=4.0),
    AttentionShape(batch=32, length=211, heads=2, dim=25, goal=1.0),
)
MEMORY_LENGTHS = (512, 1_024, 2_048, 4_096, 8_192)
"""Lengths of one sequence whose peak memory is taken."""
NAIVE_MEMORY_LENGTHS = (512, 1_024, 2_048)
"""The naive one's grows with the square."""


class AttentionCase:
    """Random queries, keys and values of one shape, and both ways to compute forward and backward over them."""

    def __init__(self, shape: AttentionShape, seed: int = 0) -> None:
        self.shape = shape
        generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        sizes = (shape.batch * shape.length, shape.heads, shape.dim)
        self.q_Thd, self.k_Thd, self.v_Thd = (
            torch.randn(sizes, generator=generator).requires_grad_() for _ in range(3)
        )
        self.dout_Thd = torch.randn(sizes, generator=generator)
        self.bias = RelativeBias(shape.length, 0.0)
        self.bias.reset(generator)
        self.seconds_BN = np.sort(rng.integers(0, _YEAR_SECONDS, (shape.batch, shape.length)), axis=1)
        offsets, seconds_T = np.arange(shape.batch + 1) * shape.length, self.seconds_BN.ravel()
        self.queries_T = next_seconds(offsets, seconds_T, np.full(shape.batch, _YEAR_SECONDS))
        self.layout: Layout = sequence_layout(offsets, seconds_T, self.queries_T)

    def blocked(self) -> Tensor:
        """Forward and backward by the product's attention, its plan for the layout included."""
        plan = AttentionPlan(self.layout, torch.device("cpu"), relative_bias=True)
        rule = Rule(softmax=False, divisor=self.shape.length)
        return self._backward(interval_attention(self.q_Thd, self.k_Thd, self.v_Thd, plan, self.bias, rule))

    def naive(self) -> Tensor:
        """Forward and backward as the published code does it."""
        batch, length = self.shape.batch, self.shape.length
        q_BNhd, k_BNhd, v_BNhd = (x.view(batch, length, *x.shape[1:]) for x in (self.q_Thd, self.k_Thd, self.v_Thd))
        queries_BN = torch.from_numpy(self.queries_T).view(batch, length)
        seconds_BN = torch.from_numpy(self.seconds_BN)
        out_BNhd = naive_attention(q_BNhd, k_BNhd, v_BNhd, queries_BN, seconds_BN, self.bias)
        return self._backward(out_BNhd.reshape(self.q_Thd.shape))

    def gradients(self) -> dict[str, Tensor]:
        """Gradients since the last call."""
        leaves = {"q": self.q_Thd, "k": self.k_Thd, "v": self.v_Thd, **dict(self.bias.named_parameters())}
        taken = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        for leaf in leaves.values():
            leaf.grad = None
        return taken

    def _backward(self, out_Thd: Tensor) -> Tensor:
        out_Thd.backward(self.dout_Thd)  # type: ignore[no-untyped-call]  # torch declares no types for it
        return out_Thd.detach()


def naive_attention(
    q_BNhd: Tensor, k_BNhd: Tensor, v_BNhd: Tensor, queries_BN: Tensor, seconds_BN: Tensor, bias: RelativeBias
) -> Tensor:
    """Causal attention as the published code computes it: whole N x N scores, by einsum, then the mask, [B, N, h, d].

    `queries_BN` and `seconds_BN` are the times at which tokens are asked, and their own.
    """
    length = q_BNhd.shape[1]
    index_N = torch.arange(length)
    position_NN = bias.position[(index_N[:, None] - index_N).clamp_(min=0)]
    bias_BNN = position_NN + bias.time[time_buckets(queries_BN[:, :, None] - seconds_BN[:, None, :])]
    scores_BhNN = torch.einsum("bihd,bjhd->bhij", q_BNhd, k_BNhd) + bias_BNN.unsqueeze(1)
    weights_BhNN = F.silu(scores_BhNN) / length * torch.tril(torch.ones(length, length))
    return torch.einsum("bhij,bjhd->bihd", weights_BhNN, v_BNhd)


def run_attention_bench(rounds: int, say: Say) -> dict[str, Any]:
    """Times of both in turns, on one thread, and the peak memory of each by length, each in a process of its own."""
    torch.set_num_threads(1)
    speed = [_compare(AttentionCase(shape), rounds, say) for shape in SHAPES]
    blocked = {length: _peak(length, naive=False) for length in MEMORY_LENGTHS}
    naive = {length: _peak(length, naive=True) for length in NAIVE_MEMORY_LENGTHS}
    for length, peak in blocked.items():
        say(
            f"N {length}: peak {peak / 1e6:.0f} MB, naive "
            + (f"{naive[length] / 1e6:.0f} MB" if length in naive else "-")
        )
    growth = blocked[8_192] / blocked[4_096]
    say(f"N 8192 needs {growth:.2f} times the memory of N 4096")
    return {
        "rounds": rounds,
        "speed": speed,
        "blocked_peak_bytes": blocked,
        "naive_peak_bytes": naive,
        "growth_4096_to_8192": growth,
    }


def _compare(case: AttentionCase, rounds: int, say: Say) -> dict[str, Any]:
    times: dict[str, list[float]] = {"blocked": [], "naive": []}
    outputs: dict[str, Tensor] = {}
    for number in range(rounds + 1):
        for name, run in (("blocked", case.blocked), ("naive", case.naive)):
            started = time.perf_counter()
            outputs[name] = run()
            if number:
                times[name].append(time.perf_counter() - started)
            case.gradients()
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio, shape = medians["naive"] / medians["blocked"], case.shape
    say(
        f"B {shape.batch}, N {shape.length}, {shape.heads} heads x {shape.dim}: {ratio:.2f} times faster than naive "
        f"(goal {shape.goal}): {medians['blocked'] * 1e3:.1f} ms against {medians['naive'] * 1e3:.1f} ms"
    )
    return {
        "batch": shape.batch,
        "length": shape.length,
        "heads": shape.heads,
        "dim": shape.dim,
        "blocked_ms": medians["blocked"] * 1e3,
        "naive_ms": medians["naive"] * 1e3,
        "ratio": ratio,
        "goal": shape.goal,
        "largest_difference": float((outputs["blocked"] - outputs["naive"]).abs().max()),
    }


def _peak(length: int, *, naive: bool) -> int:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_bytes, (length, naive))


def _peak_bytes(length: int, naive: bool) -> int:
    """Peak memory of this process over what it held before: inputs, one forward, one backward."""
    torch.set_num_threads(1)
    for size in (64, length):
        before = reset_peak_memory()
        case = AttentionCase(AttentionShape(batch=1, length=size, heads=4, dim=32, goal=0))
        (case.naive if naive else case.blocked)()
    return peak_memory_bytes() - before
