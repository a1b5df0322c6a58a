"""Multi-head softmax attention of Transformers, over values and a layout.

Shapes: T tokens, D width, h heads, d features of queries and keys, e features of values.
"""

import torch
from torch import Tensor, nn

from model.attention import AttentionPlan, interval_attention
from model.blocked_attention import Rule
from model.encoder import EncoderSettings
from model.hstu import tiled_product

_SOFTMAX = Rule(softmax=True, divisor=1)


class TiledLinear(nn.Linear):
    """A linear map whose rows do not depend on how many there are, to the last bit."""

    def reset(self, generator: torch.Generator) -> None:
        """Weights Xavier normal, bias 0."""
        nn.init.xavier_normal_(self.weight, generator=generator)
        nn.init.zeros_(self.bias)

    def forward(self, x_TD: Tensor) -> Tensor:
        """[T, D] to [T, outputs]."""
        return tiled_product(x_TD, self.weight.T) + self.bias


class SoftmaxAttention(nn.Module):
    """softmax(q.k / sqrt(d)) v over the keys that each token sees, then an output map (Vaswani et al. 2017).

    Attention weights themselves are not dropped out: what comes out is, by whoever calls.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.num_heads = settings.num_heads
        self.scale = settings.key_dim**-0.5
        self.query = TiledLinear(settings.dim, settings.num_heads * settings.key_dim)
        self.key = TiledLinear(settings.dim, settings.num_heads * settings.key_dim)
        self.value = TiledLinear(settings.dim, settings.num_heads * settings.value_dim)
        self.output = TiledLinear(settings.num_heads * settings.value_dim, settings.dim)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for linear in (self.query, self.key, self.value, self.output):
            linear.reset(generator)

    def forward(self, queries_TD: Tensor, keys_TD: Tensor, plan: AttentionPlan) -> Tensor:
        """What each token takes from its keys, [T, D]."""
        heads = (len(queries_TD), self.num_heads, -1)
        q_Thd, k_Thd = self.query(queries_TD).view(heads) * self.scale, self.key(keys_TD).view(heads)
        attended_The = interval_attention(q_Thd, k_Thd, self.value(keys_TD).view(heads), plan, None, _SOFTMAX)
        taken_TD: Tensor = self.output(attended_The.flatten(1))
        return taken_TD
