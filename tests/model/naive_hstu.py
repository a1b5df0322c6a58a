"""HSTU written down a second time, from the formulas of HSTU.md alone: dense, one sequence at a time, slow.

Shapes: n tokens of a sequence, D width, h heads.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.encoder import EncoderSettings
from model.hstu import HSTU, HSTULayer


@dataclass(frozen=True, kw_only=True)
class NaiveSequence:
    """One sequence: prefix and history, then targets, each with the number of history tokens that it sees."""

    seconds: list[int]
    query_seconds: list[int]
    num_history: int
    target_ends: list[int]
    num_prefix: int = 0
    local_window: int | None = None

    def place(self, i: int) -> int:
        """Index for the bias, and for the local window: all of a prefix is one place."""
        return self.target_ends[i - self.num_history] if i >= self.num_history else i

    def sees(self, i: int, j: int) -> bool:
        """The mask of HSTU.md, section 2, for one pair."""
        if i == j:
            return True
        if j >= self.num_history:
            return False
        if i < self.num_prefix:
            return True
        if j >= self.place(i):
            return False
        prefix = max(self.num_prefix - 1, 0)
        apart = max(self.place(i) - prefix, 0) - max(j - prefix, 0)
        return self.local_window is None or apart <= self.local_window


def naive_bucket(seconds: int) -> int:
    """clamp(floor(ln(max(|d|, 1)) / 0.301), 0, 128), the logarithm in float32."""
    log = torch.tensor(max(abs(seconds), 1), dtype=torch.int64).to(torch.float32).log()
    return min(max(math.floor(float(log / 0.301)), 0), 128)


def naive_stack(stack: HSTU, settings: EncoderSettings, x_nD: Tensor, sequence: NaiveSequence) -> Tensor:
    """What the stack should give for one sequence, with gradients by autograd."""
    for layer in stack.layers:
        assert isinstance(layer, HSTULayer)
        x_nD = _layer(layer, settings, x_nD, sequence)
    return x_nD / x_nD.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-6)


def _layer(layer: HSTULayer, settings: EncoderSettings, x_nD: Tensor, sequence: NaiveSequence) -> Tensor:
    heads, key, value = settings.num_heads, settings.key_dim, settings.value_dim
    z = _silu(_normed(x_nD) @ layer.uvqk)
    u = z[:, : heads * value]
    v = z[:, heads * value : 2 * heads * value].reshape(-1, heads, value)
    q = z[:, 2 * heads * value : 2 * heads * value + heads * key].reshape(-1, heads, key)
    k = z[:, 2 * heads * value + heads * key :].reshape(-1, heads, key)
    pairs = range(len(x_nD))
    mask = torch.tensor([[sequence.sees(i, j) for j in pairs] for i in pairs])
    bias = _bias(layer, x_nD, sequence)
    attended = []
    for head in range(heads):
        products = q[:, head] @ k[:, head].T
        if settings.attention == "softmax":
            scores = (products / math.sqrt(key) + bias).masked_fill(~mask, -math.inf)
            weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        else:
            weights = _silu(products + bias) / settings.window * mask
        attended.append(weights @ v[:, head])
    gated = u * _normed(torch.cat(attended, -1))
    return x_nD + gated @ layer.output.weight.T + layer.output.bias


def _bias(layer: HSTULayer, x_nD: Tensor, sequence: NaiveSequence) -> Tensor:
    if layer.bias is None:
        return torch.zeros(len(x_nD), len(x_nD), dtype=x_nD.dtype)
    pairs = range(len(x_nD))
    distances = [[max(sequence.place(i) - sequence.place(j), 0) for j in pairs] for i in pairs]
    elapsed = [[naive_bucket(sequence.query_seconds[i] - sequence.seconds[j]) for j in pairs] for i in pairs]
    bias: Tensor = layer.bias.position[torch.tensor(distances)] + layer.bias.time[torch.tensor(elapsed)]
    return bias


def _normed(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()


def _silu(x: Tensor) -> Tensor:
    return F.sigmoid(x) * x
