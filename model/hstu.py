"""The HSTU layer and stack of the published research code (HSTU.md, section 1; Zhai et al. 2024, arXiv 2402.17152).

Shapes: T tokens, D width, h heads, d features of queries and keys, e features of values, E = 2 h (d + e).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import AttentionPlan, interval_attention
from model.bias import RelativeBias
from model.blocked_attention import Rule
from model.encoder import EncoderSettings
from model.layout import Layout
from model.settings import TILE

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
    """One layer: pre-norm, one projection to u, v, q, k, pointwise attention, gate, output, residual.

    z = SiLU(LN(x) W); u, v, q, k = split(z); y = x + W_o dropout(u * LN(attention(q, k, v))) + b_o, where LN has no
    affine part and spans all heads.

    Weights of the published layer load as: `_uvqk` -> `uvqk`, [D, E] in the order u, v, q, k, heads in order within
    each; `_o.weight`, `_o.bias` -> `output.weight`, `output.bias`; `_rel_attn_bias._ts_w` -> `bias.time`;
    `_rel_attn_bias._pos_w[N - 1 - distance]` -> `bias.position[distance]` for distances 0 to N - 1. `window` is its N
    = max_sequence_length + gr_output_length + 1 (`bias.position[N]` is never read then).
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.num_heads = settings.num_heads
        value_dim, key_dim = settings.num_heads * settings.value_dim, settings.num_heads * settings.key_dim
        self.sizes = [value_dim, value_dim, key_dim, key_dim]
        self.uvqk = nn.Parameter(torch.empty(settings.dim, sum(self.sizes)))
        self.output = nn.Linear(value_dim, settings.dim)
        self.bias = RelativeBias(settings.window, settings.initial_time_bias) if settings.relative_bias else None
        self.dropout = Dropout(settings.dropout)
        is_softmax = settings.attention == "softmax"
        self.rule = Rule(is_softmax, 1 if is_softmax else settings.window)
        self.score_scale = settings.key_dim**-0.5 if is_softmax else 1.0

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        nn.init.normal_(self.uvqk, std=0.02, generator=generator)
        nn.init.xavier_uniform_(self.output.weight, generator=generator)
        nn.init.zeros_(self.output.bias)
        if self.bias is not None:
            self.bias.reset(generator)

    def forward(self, x_TD: Tensor, plan: AttentionPlan) -> Tensor:
        """Tokens after this layer, [T, D]."""
        u_TV, q_Thd, k_Thd, v_The = self.project(x_TD)
        return self.finish(x_TD, u_TV, interval_attention(q_Thd, k_Thd, v_The, plan, self.bias, self.rule))

    def project(self, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gates [T, h * e], queries and keys [T, h, d] and values [T, h, e]."""
        u_TV, v_TV, q_TK, k_TK = torch.split(F.silu(tiled_product(_norm(x_TD), self.uvqk)), self.sizes, -1)
        q_Thd, k_Thd, v_The = (
            x.view(x.shape[0], self.num_heads, x.shape[1] // self.num_heads) for x in (q_TK, k_TK, v_TV)
        )
        return u_TV, q_Thd if self.score_scale == 1 else q_Thd * self.score_scale, k_Thd, v_The

    def finish(self, x_TD: Tensor, u_TV: Tensor, attended_The: Tensor) -> Tensor:
        """Tokens after this layer, from what attention gave."""
        gated_TV = self.dropout(u_TV * _norm(attended_The.flatten(1)))
        return x_TD + tiled_product(gated_TV, self.output.weight.T) + self.output.bias


class HSTU(nn.Module):
    """A stack of layers; what leaves it is l2-normalised."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.window = settings.window
        self.relative_bias = settings.relative_bias
        self.layers = nn.ModuleList(HSTULayer(settings) for _ in range(settings.num_layers))

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for layer in self.layers:
            assert isinstance(layer, HSTULayer)
            layer.reset(generator)

    def forward(self, x_TD: Tensor, layout: Layout) -> Tensor:
        """Unit vectors [T, D]; raises `ValueError` for a sequence longer than the window."""
        longest = int(layout.positions_T.max())
        if longest > self.window:
            raise ValueError(f"positions must be at most window = {self.window}, got {longest}: cut the histories")
        plan = AttentionPlan(layout, x_TD.device, relative_bias=self.relative_bias)
        for layer in self.layers:
            x_TD = layer(x_TD, plan)
        return unit_vectors(x_TD)


def unit_vectors(x_TD: Tensor) -> Tensor:
    """Rows divided by their length: what leaves a stack."""
    return F.normalize(x_TD, dim=-1, eps=_EPSILON)


def tiled_product(x_TD: Tensor, weight_DE: Tensor) -> Tensor:
    """Product x @ weight, [T, E], in whole tiles of rows, so that no row's last bits depend on how many there are.

    An exported program, which holds for any number of rows, has no tiles.
    """
    if torch.compiler.is_compiling():
        return x_TD @ weight_DE
    num_tokens = len(x_TD)
    padding = -num_tokens % TILE
    padded_PD = F.pad(x_TD, (0, 0, 0, padding)) if padding else x_TD
    return (padded_PD @ weight_DE)[:num_tokens]


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_EPSILON)
