"""HSTU's attention over a batch of sequences: who computes it, and what it is given.

Shapes: T tokens, h heads, d features of queries and keys, e features of values.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.bias import RelativeBias
from model.blocked_attention import BlockedAttention, Rule
from model.blocks import Chunk, cut_into_chunks
from model.layout import Layout

if TYPE_CHECKING:
    from model.triton_attention import Tiles


@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """A layout made ready, once, for the attention of all layers on one device."""

    layout: Layout
    device: torch.device
    relative_bias: bool
    """Whether the layers have a bias, whose time buckets are computed ahead."""

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """For blocked attention."""
        return cut_into_chunks(self.layout, self.device, with_times=self.relative_bias)

    @cached_property
    def tiles(self) -> "Tiles":
        """For Triton's."""
        from model.triton_attention import Tiles

        return Tiles.of(self.layout, self.device)


def interval_attention(
    q_Thd: Tensor, k_Thd: Tensor, v_The: Tensor, plan: AttentionPlan, bias: RelativeBias | None, rule: Rule
) -> Tensor:
    """Sum of weight times value over the keys that each token sees, [T, h, e].

    The weight is SiLU(q.k + bias) / divisor or, by `rule`, softmax(q.k + bias): scale queries before. What each token
    sees is an interval of its own sequence (see `Layout`). The bias of token i on key j is position[position_i - j] +
    time[bucket(query time_i - time_j)], 0 without tables. SiLU on CUDA is Triton's where Triton is installed (Linux
    builds of torch for CUDA bring it); everything else is blocked attention, with the same results but for rounding.
    Zhai et al. 2024 (arXiv 2402.17152), section 3.2.
    """
    tables = (None, None) if bias is None else (bias.position, bias.time)
    if q_Thd.is_cuda and not rule.softmax and find_spec("triton") is not None:
        from model.triton_attention import TritonAttention

        fused_The: Tensor = TritonAttention.apply(  # type: ignore[no-untyped-call]  # torch declares no types for it
            q_Thd, k_Thd, v_The, *tables, plan.tiles, rule.divisor
        )
        return fused_The
    out_The: Tensor = BlockedAttention.apply(  # type: ignore[no-untyped-call]  # see above
        q_Thd, k_Thd, v_The, *tables, plan.chunks, rule
    )
    return out_The
