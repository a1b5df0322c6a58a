"""What is read from the backbone: scores of items and probabilities of actions.

Shapes: Q queries, I items, D width, A action types.
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
        return query_QD.float() @ F.normalize(item_ID.float(), dim=-1, eps=1e-6).T

    def temperature(self) -> Tensor:
        """What cosines are divided by, a learned positive scalar."""
        return self.log_temperature.exp()


class RankingHead(nn.Module):
    """One logit per action type from a target token h and its item's embedding e: an MLP over [h, e, h * e]."""

    def __init__(self, dim: int, num_actions: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * dim, dim)
        self.output = nn.Linear(dim, num_actions)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for linear in (self.hidden, self.output):
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)

    def forward(self, target_QD: Tensor, item_QD: Tensor) -> Tensor:
        """Logits [Q, A]; `target_QD` are unit vectors, `item_QD` the items as the backbone was given them."""
        scaled_QD = target_QD * math.sqrt(target_QD.shape[-1])
        features = torch.cat([scaled_QD, item_QD, scaled_QD * item_QD], -1)
        logits: Tensor = self.output(F.silu(self.hidden(features)))
        return logits.float()
