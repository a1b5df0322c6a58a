"""A plain decoder-only Transformer as an encoder: the architecture that HSTU is held against on streams.

Shapes: T tokens, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import AttentionPlan
from model.encoder import EncoderSettings
from model.hstu import Dropout
from model.layout import Layout
from model.softmax_attention import SoftmaxAttention, TiledLinear

_UNIT_EPSILON = 1e-6
_HIDDEN = 4
"""Hidden width of the feed-forward part, in widths."""


class TransformerLayer(nn.Module):
    """x = x + attention(LN(x)); x = x + W_2 gelu(W_1 LN(x)), hidden width 4 D (Xiong et al. 2020: norms first)."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(settings.dim)
        self.attention = SoftmaxAttention(settings)
        self.feed_norm = nn.LayerNorm(settings.dim)
        self.inner = TiledLinear(settings.dim, _HIDDEN * settings.dim)
        self.outer = TiledLinear(_HIDDEN * settings.dim, settings.dim)
        self.dropout = Dropout(settings.dropout)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for part in (self.attention, self.inner, self.outer):
            part.reset(generator)
        for norm in (self.attention_norm, self.feed_norm):
            norm.reset_parameters()

    def forward(self, x_TD: Tensor, plan: AttentionPlan) -> Tensor:
        """Tokens after this layer, [T, D]."""
        normed_TD = self.attention_norm(x_TD)
        x_TD = x_TD + self.dropout(self.attention(normed_TD, normed_TD, plan))
        hidden_TF = self.dropout(F.gelu(self.inner(self.feed_norm(x_TD))))
        fed_TD: Tensor = x_TD + self.dropout(self.outer(hidden_TF))
        return fed_TD


class Transformer(nn.Module):
    """A stack of layers and a last norm; what leaves it is l2-normalised. Times are not looked at."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(settings) for _ in range(settings.num_layers))
        self.norm = nn.LayerNorm(settings.dim)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            layer.reset(generator)
        self.norm.reset_parameters()

    def forward(self, x_TD: Tensor, layout: Layout) -> Tensor:
        """Unit vectors [T, D]."""
        plan = AttentionPlan(layout, x_TD.device, relative_bias=False)
        for layer in self.layers:
            x_TD = layer(x_TD, plan)
        return F.normalize(self.norm(x_TD), dim=-1, eps=_UNIT_EPSILON)
