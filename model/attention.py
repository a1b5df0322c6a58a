"""HSTU's attention over a batch of sequences: who computes it, and what it is given.

Shapes: T tokens, h heads, d features of queries and keys, e features of values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.bias import RelativeBias
from model.blocked_attention import BlockedAttention, Rule
from model.blocks import Chunk, cut_into_chunks
from model.layout import Layout


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """A layout made ready for the attention of every layer."""

    layout: Layout
    chunks: tuple[Chunk, ...]

    @classmethod
    def of(cls, layout: Layout, device: torch.device, *, relative_bias: bool) -> "AttentionPlan":
        """Ready on a device, to be used by all layers; with `relative_bias`, their bias is prepared too."""
        return cls(layout, cut_into_chunks(layout, device, with_times=relative_bias))


def interval_attention(
    q_Thd: Tensor, k_Thd: Tensor, v_The: Tensor, plan: AttentionPlan, bias: RelativeBias | None, rule: Rule
) -> Tensor:
    """Sum of weight times value over the keys that each token sees, [T, h, e].

    The weight is SiLU(q.k + bias) / divisor or, by `rule`, softmax(q.k + bias): scale queries before. What each token
    sees is an interval of its own sequence (see `Layout`). The bias of a token's row i on key j is
    position[position_i - j] + time[bucket(query time_i - time_j)], 0 without tables. Raises `ValueError` where a
    sequence is longer than the position table. Zhai et al. 2024 (arXiv 2402.17152), section 3.2.
    """
    tables = (None, None) if bias is None else (bias.position, bias.time)
    out_The: Tensor = BlockedAttention.apply(  # type: ignore[no-untyped-call]  # torch declares no types for it
        q_Thd, k_Thd, v_The, *tables, plan.chunks, rule
    )
    return out_The
