"""Scores of items, read from the backbone.

Shapes: Q queries, I items, D width, G kinds of counts.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_INITIAL_GATE = 0.5


class RetrievalHead(nn.Module):
    """Cosine of query and item over a learned temperature, plus counts of the item, weighed by learned gates."""

    def __init__(self, temperature: float, num_counts: int) -> None:
        super().__init__()
        self.initial = temperature
        self.log_temperature = nn.Parameter(torch.empty(()))
        self.gates = nn.Parameter(torch.empty(num_counts))

    def reset(self) -> None:
        """Set the temperature to its initial value."""
        nn.init.constant_(self.log_temperature, math.log(self.initial))
        nn.init.constant_(self.gates, _INITIAL_GATE)

    def forward(self, query_QD: Tensor, item_ID: Tensor, counted_QIG: Tensor) -> Tensor:
        """Logits [Q, I] in float32, given the logs of counts."""
        return self.cosines(query_QD, item_ID) / self.temperature() + counted_QIG @ self.gates

    def cosines(self, query_QD: Tensor, item_ID: Tensor) -> Tensor:
        """Cosines [Q, I] in float32; queries are unit vectors already, item rows are made so here."""
        return query_QD.float() @ unit_rows(item_ID).T

    def temperature(self) -> Tensor:
        """What cosines are divided by, a learned positive scalar."""
        return self.log_temperature.exp()


def unit_rows(item_ID: Tensor) -> Tensor:
    """Rows as float32 unit vectors; one of zeros stays."""
    return F.normalize(item_ID.float(), dim=-1, eps=1e-6)
