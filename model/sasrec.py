"""SASRec as an encoder (Kang & McAuley 2018, arXiv 1808.09781), in the form that HSTU was published beside.

Shapes: T tokens, D width.
"""

from torch import Tensor
from torch.nn import functional as F

from model.attention import AttentionPlan
from model.encoder import EncoderSettings
from model.norm_blocks import NormBlock, NormStack

_NORM_EPSILON = 1e-8


class SASRecBlock(NormBlock):
    """q = LN(x); x = LN(q + attention(q, x, x)); x + W_2 relu(W_1 x), hidden width D, dropout after each map."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__(settings, hidden=settings.dim, norm_epsilon=_NORM_EPSILON)

    def forward(self, x_TD: Tensor, plan: AttentionPlan) -> Tensor:
        """Tokens after this block, [T, D]."""
        queries_TD = self.attention_norm(x_TD)
        attended_TD = self.dropout(self.attention(queries_TD, x_TD, plan))
        x_TD = self.feed_norm(queries_TD + attended_TD)
        hidden_TD = self.dropout(F.relu(self.inner(x_TD)))
        fed_TD: Tensor = x_TD + self.dropout(self.outer(hidden_TD))
        return fed_TD


class SASRec(NormStack):
    """A stack of blocks."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__([SASRecBlock(settings) for _ in range(settings.num_layers)])
