"""SASRec as an encoder (Kang & McAuley 2018, arXiv 1808.09781), in the form that HSTU was published beside.

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

_NORM_EPSILON = 1e-8
_UNIT_EPSILON = 1e-6


class SASRecBlock(nn.Module):
    """q = LN(x); x = LN(q + attention(q, x, x)); x + W_2 relu(W_1 x), hidden width D, dropout after each map."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(settings.dim, eps=_NORM_EPSILON)
        self.attention = SoftmaxAttention(settings)
        self.feed_norm = nn.LayerNorm(settings.dim, eps=_NORM_EPSILON)
        self.inner = TiledLinear(settings.dim, settings.dim)
        self.outer = TiledLinear(settings.dim, settings.dim)
        self.dropout = Dropout(settings.dropout)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for part in (self.attention, self.inner, self.outer):
            part.reset(generator)
        for norm in (self.attention_norm, self.feed_norm):
            norm.reset_parameters()

    def forward(self, x_TD: Tensor, plan: AttentionPlan) -> Tensor:
        """Tokens after this block, [T, D]."""
        queries_TD = self.attention_norm(x_TD)
        attended_TD = self.dropout(self.attention(queries_TD, x_TD, plan))
        x_TD = self.feed_norm(queries_TD + attended_TD)
        hidden_TD = self.dropout(F.relu(self.inner(x_TD)))
        fed_TD: Tensor = x_TD + self.dropout(self.outer(hidden_TD))
        return fed_TD


class SASRec(nn.Module):
    """A stack of blocks; what leaves it is l2-normalised. Times are not looked at."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SASRecBlock(settings) for _ in range(settings.num_layers))

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for block in self.blocks:
            assert isinstance(block, SASRecBlock)
            block.reset(generator)

    def forward(self, x_TD: Tensor, layout: Layout) -> Tensor:
        """Unit vectors [T, D]."""
        plan = AttentionPlan(layout, x_TD.device, relative_bias=False)
        for block in self.blocks:
            x_TD = block(x_TD, plan)
        return F.normalize(x_TD, dim=-1, eps=_UNIT_EPSILON)
