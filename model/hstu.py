"""The HSTU layer and stack of the research code (HSTU.md, section 1).

Shapes: B windows, L history tokens, T target tokens, R = L + T rows, D width, h heads, d = D / h.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import interval_attention
from model.bias import RelativeBias
from model.settings import ModelSettings
from model.windows import Geometry

_EPSILON = 1e-6


class Dropout(nn.Module):
    """Inverted dropout that draws from a generator of its own, so that its state can be saved."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`x` with a share of its entries at 0 and the rest scaled up; `x` itself outside training."""
        if not self.training or self.share == 0:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - self.share, generator=self.generator)
        return x * keep / (1 - self.share)


class HSTULayer(nn.Module):
    """One layer: pre-norm, one projection to u, v, q, k, pointwise attention, gate, output, residual."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        dim = settings.dim
        self.num_heads = settings.num_heads
        self.window = settings.window
        self.uvqk = nn.Parameter(torch.empty(dim, 4 * dim))
        self.output = nn.Linear(dim, dim)
        self.bias = RelativeBias(settings.window)
        self.dropout = Dropout(settings.dropout)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        nn.init.normal_(self.uvqk, std=0.02, generator=generator)
        nn.init.xavier_uniform_(self.output.weight, generator=generator)
        nn.init.zeros_(self.output.bias)
        self.bias.reset(generator)

    def forward(self, x_BRD: Tensor, geometry: Geometry) -> Tensor:
        """Tokens after this layer, [B, R, D]."""
        z_BRE = F.silu(_norm(x_BRD) @ self.uvqk)
        u_BRD, v_BRD, q_BRD, k_BRD = z_BRE.chunk(4, dim=-1)
        heads = (*x_BRD.shape[:2], self.num_heads, -1)
        attended_BRhd = interval_attention(
            q_BRD.reshape(heads),
            k_BRD.reshape(heads),
            v_BRD.reshape(heads),
            self.bias(geometry.distance_BRL, geometry.bucket_BRL),
            self.bias.self_bias(),
            geometry.allowed_BRL,
            self.window,
        )
        gated_BRD = u_BRD * _norm(attended_BRhd.flatten(2))
        output: Tensor = x_BRD + self.output(self.dropout(gated_BRD))
        return output


class HSTU(nn.Module):
    """A stack of layers; what leaves it is l2-normalised."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(HSTULayer(settings) for _ in range(settings.num_layers))

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for layer in self.layers:
            assert isinstance(layer, HSTULayer)
            layer.reset(generator)

    def forward(self, x_BRD: Tensor, geometry: Geometry) -> Tensor:
        """Unit vectors [B, R, D] of the tokens."""
        for layer in self.layers:
            x_BRD = layer(x_BRD, geometry)
        return F.normalize(x_BRD, dim=-1, eps=_EPSILON)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_EPSILON)
