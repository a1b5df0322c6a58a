"""A recurrent layer as an encoder: what GRU4Rec runs over a user's items.

Shapes: T tokens, B sequences (padded to a tile), L steps, D width.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layout import Layout
from model.settings import TILE

_UNIT_EPSILON = 1e-6


class GRU(nn.Module):
    """One layer of gated recurrent units (Cho et al. 2014, arXiv 1406.1078), its states l2-normalised."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(dim, dim)

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights, uniform up to 1 / sqrt(D)."""
        for weight in self.cell.parameters():
            nn.init.uniform_(weight, -(self.cell.hidden_size**-0.5), self.cell.hidden_size**-0.5, generator=generator)

    def forward(self, x_TD: Tensor, layout: Layout) -> Tensor:
        """Unit vectors [T, D]; sequences are taken step by step, in whole tiles of rows (see `tiled_product`)."""
        lengths_B = np.diff(layout.offsets)
        num_rows = -(-layout.num_sequences // TILE) * TILE
        step_T = np.arange(layout.num_tokens) - np.repeat(layout.offsets[:-1], lengths_B)
        row_T = np.repeat(np.arange(layout.num_sequences), lengths_B)
        place_T = torch.from_numpy(step_T * num_rows + row_T)
        shape = (int(lengths_B.max()), num_rows, x_TD.shape[1])
        x_LBD = x_TD.new_zeros(shape).view(-1, shape[2]).index_copy(0, place_T, x_TD).view(shape)
        state_BD, states = x_TD.new_zeros(shape[1:]), []
        for x_BD in x_LBD:
            state_BD = self.cell(x_BD, state_BD)
            states.append(state_BD)
        return F.normalize(torch.cat(states)[place_T], dim=-1, eps=_UNIT_EPSILON)
