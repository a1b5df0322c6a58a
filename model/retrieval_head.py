"""Scores of items, read from the backbone.

Shapes: Q queries, I items, D width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RetrievalHead(nn.Module):
    """Cosine of query and item over a learned temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.initial = temperature
        self.log_temperature = nn.Parameter(torch.empty(()))

    def reset(self) -> None:
        """Set the temperature to its initial value."""
        nn.init.constant_(self.log_temperature, math.log(self.initial))

    def forward(self, query_QD: Tensor, item_ID: Tensor) -> Tensor:
        """Logits [Q, I] in float32."""
        return self.cosines(query_QD, item_ID) / self.temperature()

    def cosines(self, query_QD: Tensor, item_ID: Tensor) -> Tensor:
        """Cosines [Q, I] in float32; queries are unit vectors already, item rows are made so here."""
        return query_QD.float() @ unit_rows(item_ID).T

    def temperature(self) -> Tensor:
        """What cosines are divided by, a learned positive scalar."""
        return self.log_temperature.exp()


def unit_rows(item_ID: Tensor) -> Tensor:
    """Rows as float32 unit vectors; one of zeros stays."""
    return F.normalize(item_ID.float(), dim=-1, eps=1e-6)
