"""The seam between a model and what encodes its sequences: values [T, D] and a layout in, unit vectors out.

Shapes: T tokens, D width.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from model.layout import Layout


class SequenceEncoder(Protocol):
    """What every encoder is: HSTU, its ablations, and the ones it is compared with.

    A token's output follows from its own sequence alone, to the last bit: neither other sequences of the batch nor
    their order change it.
    """

    def __call__(self, x_TD: Tensor, layout: Layout) -> Tensor:
        """Unit vectors [T, D] of tokens [T, D], which lie as the layout says."""
        ...

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings:
    """Shape of an encoder; the defaults are those of HSTU for MovieLens-1M in the published configuration."""

    dim: int = 50
    """Width of tokens."""
    num_layers: int = 2
    num_heads: int = 1
    key_dim: int = 50
    """Features of each head's queries and keys."""
    value_dim: int = 50
    """Features of each head's values and gates."""
    window: int = 211
    """N: the constant that attention divides by, and the longest distance in tokens with a bias of its own."""
    dropout: float = 0.2
    """Share of the gated attention output that is dropped while learning."""
    attention: Literal["pointwise", "softmax"] = "pointwise"
    """`softmax` is the paper's ablation: over the keys that a token sees, of q.k / sqrt(key_dim) + bias."""
    relative_bias: bool = True
    """Whether scores have a bias by distance in tokens and in time."""
    initial_time_bias: float = 0.0
    """Mean of the initial time table; see `model.bias`."""

    def __post_init__(self) -> None:
        for name in ("dim", "num_layers", "num_heads", "key_dim", "value_dim", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.attention not in ("pointwise", "softmax"):
            raise ValueError(f"attention must be pointwise or softmax, got {self.attention!r}")
