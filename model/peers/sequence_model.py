"""A model of a user's next item around any encoder, over items that come as they come.

Shapes: T tokens, Q visits, I items so far (padded to a tile of columns), D width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoder import SequenceEncoder
from model.hstu import tiled_product
from model.layout import Layout, sequence_layout
from model.peers.peer import Visit
from model.settings import COLUMN_TILE

_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class VisitBatch:
    """Tokens of visits, BOS first in each user's, and the token that each visit is predicted from."""

    items_T: Tensor
    """Row of the item table: 0 for BOS, else the item + 1."""
    layout: Layout
    reads_Q: Tensor
    targets_Q: Tensor
    """Items."""


def visit_batch(visits: Sequence[Visit], max_context: int) -> VisitBatch:
    """Each user's visits in one sequence, behind up to `max_context` items before the first of them.

    The visits of a user stand in the order of the stream. What a visit is predicted from does not depend on later ones.
    """
    own: dict[int, list[int]] = {}
    for place, visit in enumerate(visits):
        own.setdefault(visit.user, []).append(place)
    tokens, reads_Q, num_tokens = [], np.zeros(len(visits), np.int64), 0
    for places in own.values():
        start = max(0, len(visits[places[0]].history) - max_context)
        rows = np.concatenate([[0], visits[places[-1]].history[start:] + 1])
        reads_Q[places] = [num_tokens + len(visits[place].history) - start for place in places]
        tokens.append(rows)
        num_tokens += len(rows)
    offsets, times_T = np.cumsum([0, *map(len, tokens)]), np.zeros(num_tokens, np.int64)
    return VisitBatch(
        torch.from_numpy(np.concatenate(tokens)),
        sequence_layout(offsets, times_T, times_T),
        torch.from_numpy(reads_Q),
        torch.tensor([visit.item for visit in visits]),
    )


class SequenceModel(nn.Module):
    """Token = sqrt(D) E[item] (+ P[position]); logits = learned scale x cosine of its encoding and of E[item].

    The head is that of `model.next_item`. There is room for `max_items`; a row is used once its item has come.
    """

    def __init__(
        self, encoder: SequenceEncoder, *, dim: int, max_items: int, num_positions: int, temperature: float
    ) -> None:
        super().__init__()
        num_rows = -(-max_items // COLUMN_TILE) * COLUMN_TILE
        self.items = nn.Parameter(torch.empty(num_rows + 1, dim))
        self.positions = nn.Parameter(torch.empty(num_positions, dim))
        """None of them: the encoder knows the order by itself."""
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.encoder = encoder

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights: rows normal .02, positions Xavier normal, the encoder by its own rule."""
        nn.init.normal_(self.items, std=0.02, generator=generator)
        if len(self.positions):
            nn.init.xavier_normal_(self.positions, generator=generator)
        self.encoder.reset(generator)

    def forward(self, batch: VisitBatch, num_items: int) -> Tensor:
        """Logits [Q, I] of the first `num_items` items."""
        x_TD = self.items[batch.items_T] * math.sqrt(self.items.shape[1])
        if len(self.positions):
            x_TD = x_TD + self.positions[torch.from_numpy(batch.layout.positions_T)]
        query_QD = self.encoder(x_TD, batch.layout)[batch.reads_Q]
        num_columns = -(-num_items // COLUMN_TILE) * COLUMN_TILE
        unit_ID = F.normalize(self.items[1 : num_columns + 1], dim=-1, eps=_EPSILON)
        logits_QI = tiled_product(query_QD, unit_ID.T) * self.log_scale.exp()
        return logits_QI[:, :num_items]
