"""A plain decoder-only Transformer as an encoder: the architecture that HSTU is held against on streams.

Shapes: T tokens, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import AttentionPlan
from model.encoder import EncoderSettings
from model.norm_blocks import NormBlock, NormStack

_HIDDEN = 4
"""Hidden width of the feed-forward part, in widths."""
_NORM_EPSILON = 1e-5


class TransformerLayer(NormBlock):
    """x = x + attention(LN(x)); x = x + W_2 gelu(W_1 LN(x)), hidden width 4 D (Xiong et al. 2020: norms first)."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings, hidden=_HIDDEN * settings.dim, norm_epsilon=_NORM_EPSILON)

    def forward(self, x_TD: Tensor, plan: AttentionPlan) -> Tensor:
        """Tokens after this layer, [T, D]."""
        normed_TD = self.attention_norm(x_TD)
        x_TD = x_TD + self.dropout(self.attention(normed_TD, normed_TD, plan))
        hidden_TF = self.dropout(F.gelu(self.inner(self.feed_norm(x_TD))))
        fed_TD: Tensor = x_TD + self.dropout(self.outer(hidden_TF))
        return fed_TD


class Transformer(NormStack):
    """A stack of layers and a last norm."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__([TransformerLayer(settings) for _ in range(settings.num_layers)])
        self.norm = nn.LayerNorm(settings.dim)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        super().reset(generator)
        self.norm.reset_parameters()

    def finish(self, x_TD: Tensor) -> Tensor:
        """The last norm."""
        normed_TD: Tensor = self.norm(x_TD)
        return normed_TD
