"""One forward pass over new and past events: the scores it gives, and the loss that it is then learned by.

Shapes: Q retrieval targets, P replayed targets, E new events, I rows of the item table (padded), S negatives, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from model.batch import NewEvents
from model.forward import Leaf, NewOutputs, encode_new, encode_replay, pad_to_tile, rows_of
from model.item_table import ItemTable
from model.losses import action_loss, exact_softmax, sampled_softmax
from model.network import Network
from model.popularity import Popularity
from model.settings import TILE, ModelSettings
from model.windows import EncodedSequence, Integers, Window

COLUMN_TILE = 8 * TILE
"""Table rows that are scored are padded to multiples of this."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one forward pass left behind."""

    events: NewEvents
    outputs: NewOutputs
    query_QD: Tensor
    """Queries of the retrieval targets, padded to a multiple of the tile."""
    logits_QI: Tensor | None
    """Logits of all rows where the softmax is exact."""
    leaf: Leaf
    drawn_S: Tensor
    """Rows drawn as uniform negatives; none where the softmax is exact."""


class Objective:
    """Retrieval and ranking over one backbone and one item table."""

    def __init__(
        self, settings: ModelSettings, network: Network, table: ItemTable, generator: torch.Generator
    ) -> None:
        self._settings = settings
        self._network = network
        self._table = table
        self._generator = generator

    @property
    def num_columns(self) -> int:
        """Table rows that are scored, padding included."""
        return -(-len(self._table) // COLUMN_TILE) * COLUMN_TILE

    def forward(self, events: NewEvents, windows: Sequence[Window], past: Sequence[EncodedSequence]) -> Pass:
        """Run the backbone once over the windows of all new events."""
        device = self._table.weight.device
        exact = len(self._table) <= self._settings.exact_softmax_rows
        num_drawn = 0 if exact else self._settings.num_negatives
        drawn = torch.randint(max(1, len(self._table)), (num_drawn,), generator=self._generator)
        rows = torch.arange(self.num_columns) if exact else _distinct(rows_of(windows, past), drawn)
        leaf = Leaf(rows.to(device), self._table.gather(rows.to(device)))
        outputs = encode_new(self._network, leaf, windows)
        query_QD = pad_to_tile(outputs.query_ED[torch.from_numpy(events.is_target).to(device)])
        logits_QI = self._network.retrieval(query_QD, leaf.value_UD) if exact else None
        return Pass(events, outputs, query_QD, logits_QI, leaf, drawn.to(device))

    def scores(self, pass_: Pass, tile: slice) -> npt.NDArray[np.float32]:
        """Scores of all table rows for some of the targets (a whole tile, so that padding is the same for all)."""
        if pass_.logits_QI is not None:
            logits_QI = pass_.logits_QI[tile]
        else:
            logits_QI = self._network.retrieval(pass_.query_QD[tile], self._table.weight[: self.num_columns])
        return logits_QI.detach().cpu().numpy()

    def action_logits(self, pass_: Pass) -> Tensor:
        """Log odds of each action type for each new event, [E, A]."""
        outputs = pass_.outputs
        logits_EA: Tensor = self._network.ranking(
            pad_to_tile(outputs.target_ED), pad_to_tile(outputs.item_ED)
        )
        return logits_EA[: len(pass_.events)]

    def retrieval_loss(self, pass_: Pass, past: Sequence[EncodedSequence], popularity: Popularity) -> Tensor:
        """Mean over new and replayed targets; 0 where there are none."""
        device = pass_.query_QD.device
        target_Q = torch.from_numpy(pass_.events.rows[pass_.events.is_target]).to(device)
        query_QD = pass_.query_QD[: len(target_Q)]
        if past:
            past_PD, past_P = encode_replay(self._network, pass_.leaf, past)
        else:
            past_PD, past_P = query_QD[:0], target_Q[:0]
        if len(target_Q) + len(past_P) == 0:
            return pass_.query_QD.sum() * 0
        if pass_.logits_QI is None:
            losses = self._sampled(
                pass_, torch.cat([query_QD, past_PD]), torch.cat([target_Q, past_P]), popularity
            )
        else:
            num_rows = len(self._table)
            past_PI = self._network.retrieval(past_PD, pass_.leaf.value_UD[:num_rows])
            logits_QI = torch.cat([pass_.logits_QI[: len(target_Q), :num_rows], past_PI])
            losses = exact_softmax(logits_QI, torch.cat([target_Q, past_P]))
        mean: Tensor = losses.mean()
        return mean

    def ranking_loss(self, pass_: Pass, logits_EA: Tensor) -> Tensor:
        """Mean over the new events."""
        actions_E = torch.from_numpy(pass_.events.actions).to(logits_EA.device)
        return action_loss(logits_EA, actions_E).mean()

    def _sampled(self, pass_: Pass, query_QD: Tensor, target_Q: Tensor, popularity: Popularity) -> Tensor:
        """Negatives: every target of the batch, as popular as it is, and uniform draws."""
        sample_S = torch.cat([target_Q, pass_.drawn_S])
        counts = torch.from_numpy(popularity.counts(len(self._table))).to(query_QD.device)
        share_S = (counts[sample_S] + 1) / (counts.sum() + len(self._table))
        expected_S = len(target_Q) * share_S + len(pass_.drawn_S) / len(self._table)
        unit_UD = F.normalize(pass_.leaf.value_UD, dim=-1, eps=1e-6)
        negatives_QS = self._network.retrieval(query_QD, unit_UD[pass_.leaf.place(sample_S)])
        own_QD = unit_UD[pass_.leaf.place(target_Q)]
        own_Q = (query_QD * own_QD).sum(-1) * torch.exp(-self._network.retrieval.log_temperature)
        return sampled_softmax(
            own_Q, negatives_QS, expected_S.log().float(), sample_S == target_Q.unsqueeze(-1)
        )


def _distinct(rows: Integers, drawn: Tensor) -> Tensor:
    return torch.unique(torch.cat([torch.from_numpy(rows), drawn]))
