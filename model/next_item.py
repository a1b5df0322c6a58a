"""A next-item model for histories of a fixed catalogue: item table, positions, an encoder between.

Shapes: T tokens, D width, V items and a padding row 0, N positions, P predictions, S target and negatives.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders import Encoder
from model.history_batch import HistoryBatch
from model.hstu import Dropout
from model.sampled_products import SampledProducts

_EPSILON = 1e-6


class NextItemModel(nn.Module):
    """x = dropout(sqrt(D) E[item] + P[position]), 0 for padding; scores are cosines of what the encoder makes of it.

    Zhai et al. 2024 (arXiv 2402.17152) and the research code published with it.
    """

    def __init__(self, encoder: Encoder, *, num_items: int, num_positions: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.items = nn.Parameter(torch.empty(num_items + 1, dim))
        self.positions = nn.Parameter(torch.empty(num_positions, dim))
        self.dropout = Dropout(dropout)
        self.encoder = encoder

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights: items truncated normal .02, positions Xavier normal, the encoder by its own rule."""
        nn.init.trunc_normal_(self.items, std=0.02, generator=generator)
        nn.init.xavier_normal_(self.positions, generator=generator)
        self.encoder.reset(generator)

    def forward(self, batch: HistoryBatch) -> Tensor:
        """Unit vector of each prediction, [P, D]."""
        positions_T = torch.from_numpy(batch.layout.positions_T).to(self.items.device)
        x_TD = self.items[batch.items_T] * math.sqrt(self.items.shape[1]) + self.positions[positions_T]
        x_TD = self.dropout(x_TD) * (batch.items_T != 0).unsqueeze(-1)
        encoded_TD: Tensor = self.encoder(x_TD, batch.layout)
        return encoded_TD[batch.reads_P]

    def unit_items(self) -> Tensor:
        """Unit vectors [V + 1, D] of all items."""
        return F.normalize(self.items, dim=-1, eps=_EPSILON)

    def sampled_loss(
        self,
        x_PD: Tensor,
        targets_P: Tensor,
        *,
        num_items: int,
        num_negatives: int,
        temperature: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Mean cross entropy of each target among itself and negatives of its own, uniform over items 1 to `num_items`.

        They are drawn with replacement. A negative that is the target is masked; there is no correction for how likely
        a negative was drawn.
        """
        shape = (len(targets_P), num_negatives)
        negatives_PS = torch.randint(1, num_items + 1, shape, generator=generator, device=targets_P.device)
        samples_PS = torch.cat([targets_P.unsqueeze(-1), negatives_PS], -1)
        products_PS: Tensor = SampledProducts.apply(x_PD, self.unit_items(), samples_PS)  # type: ignore[no-untyped-call]  # torch declares no types for it
        is_target_PS = samples_PS == targets_P.unsqueeze(-1)
        is_target_PS[:, 0] = False
        logits_PS = (products_PS / temperature).masked_fill(is_target_PS, -torch.inf)
        return (torch.logsumexp(logits_PS, -1) - logits_PS[:, 0]).mean()
