"""What the two encoders of the Transformer's family share: a block's parts, and the stack of blocks.

Shapes: T tokens, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import AttentionPlan
from model.encoder import EncoderSettings
from model.hstu import Dropout
from model.layout import Layout
from model.softmax_attention import SoftmaxAttention, TiledLinear

_UNIT_EPSILON = 1e-6


class NormBlock(nn.Module):
    """Attention and a feed-forward part of `hidden` features, a norm for each; `forward` says in which order."""

    def __init__(self, settings: EncoderSettings, *, hidden: int, norm_epsilon: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(settings.dim, eps=norm_epsilon)
        self.attention = SoftmaxAttention(settings)
        self.feed_norm = nn.LayerNorm(settings.dim, eps=norm_epsilon)
        self.inner = TiledLinear(settings.dim, hidden)
        self.outer = TiledLinear(hidden, settings.dim)
        self.dropout = Dropout(settings.dropout)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for part in (self.attention, self.inner, self.outer):
            part.reset(generator)
        for norm in (self.attention_norm, self.feed_norm):
            norm.reset_parameters()

    def forward(self, x_TD: Tensor, plan: AttentionPlan) -> Tensor:
        """Tokens after this block, [T, D]."""
        raise NotImplementedError


class NormStack(nn.Module):
    """Blocks, one after the other; what leaves them is l2-normalised. Times are not looked at."""

    def __init__(self, blocks: Sequence[NormBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for block in self.blocks:
            assert isinstance(block, NormBlock)
            block.reset(generator)

    def forward(self, x_TD: Tensor, layout: Layout) -> Tensor:
        """Unit vectors [T, D]."""
        plan = AttentionPlan(layout, x_TD.device, relative_bias=False)
        for block in self.blocks:
            x_TD = block(x_TD, plan)
        return F.normalize(self.finish(x_TD), dim=-1, eps=_UNIT_EPSILON)

    def finish(self, x_TD: Tensor) -> Tensor:
        """What is done to the last block's tokens before they become unit vectors."""
        return x_TD
