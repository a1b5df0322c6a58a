"""One forward pass over new and past events: the scores it gives, and the loss of ranking.

Shapes: Q retrieval targets, E new events, I rows of the item table (padded), S negatives, D width, G kinds of counts, A
action types, K what the ranking head gives, V events with a value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.action_rates import ActionRates
from model.batch import NewEvents
from model.forward import Leaf, NewOutputs, encode_new, pad_to_tile, rows_of
from model.layout import Integers
from model.living_items import LivingItems
from model.losses import action_loss
from model.network import Network
from model.settings import COLUMN_TILE, LearnSettings, ModelSettings
from model.value_scale import ValueScale
from model.windows import EncodedSequence, Window


@dataclass(frozen=True, slots=True)
class Pass:
    """What one forward pass left behind."""

    events: NewEvents
    outputs: NewOutputs
    query_QD: Tensor
    """Queries of the retrieval targets, padded to a multiple of the tile."""
    leaf: Leaf
    exact: bool
    """Whether the leaf holds all rows, so that the softmax is over all of them."""
    drawn_S: Tensor
    """Rows drawn as uniform negatives; none where the softmax is exact."""
    columns: Integers | None
    """Rows that new targets are learned against: these and the drawn ones; None for all."""
    rates_E3A: Tensor
    """Counted rates of each new event's item and user (see `rate_inputs`)."""


class Objective:
    """Retrieval and ranking over one backbone and one item table."""

    def __init__(
        self,
        settings: ModelSettings,
        learn: LearnSettings,
        network: Network,
        items: LivingItems,
        rates: ActionRates,
        values: ValueScale,
        generator: torch.Generator,
    ) -> None:
        self._settings, self._learn = settings, learn
        self._network = network
        self._items, self._vocabulary = items, items.vocabulary
        self._rates = rates
        self._values = values
        self._generator = generator

    @property
    def _exact(self) -> bool:
        return self._vocabulary.num_rows <= self._settings.exact_softmax_rows

    @property
    def num_columns(self) -> int:
        """Table rows that are scored, padding included."""
        return -(-self._vocabulary.num_rows // COLUMN_TILE) * COLUMN_TILE

    def draw(self) -> Tensor:
        """Rows of a step's uniform negatives; none where the softmax is exact."""
        live = torch.from_numpy(np.flatnonzero(self._vocabulary.live_I[: self._vocabulary.num_rows]))
        num_drawn = 0 if self._exact or not len(live) else self._settings.num_negatives
        return live[torch.randint(max(1, len(live)), (num_drawn,), generator=self._generator)]

    def forward(
        self, events: NewEvents, windows: Sequence[Window], past: Sequence[EncodedSequence], drawn: Tensor
    ) -> Pass:
        """Run the backbone once over the windows of all new events; `drawn` are the step's negatives."""
        device, exact = self._items.table.weight.device, self._exact
        rows = torch.arange(self.num_columns) if exact else _distinct(rows_of(windows, past), drawn)
        leaf = self._items.leaf(rows.to(device))
        outputs = encode_new(self._network, leaf, windows)
        query_QD = pad_to_tile(outputs.query_ED[torch.from_numpy(events.is_target).to(device)])
        rates_E3A = self._rates.inputs(events.rows, outputs.seen_EF)
        columns = None if exact else np.concatenate([events.rows[events.is_target], drawn.numpy()])
        return Pass(events, outputs, query_QD, leaf, exact, drawn.to(device), columns, rates_E3A)

    def items(self, pass_: Pass) -> Tensor:
        """All items as they are before the step, [I, D]."""
        with torch.no_grad():
            rows = torch.arange(self.num_columns)
            return pass_.leaf.value_UD.detach() if pass_.exact else self._items.vectors(rows)

    def scores(
        self, pass_: Pass, tile: slice, item_ID: Tensor, counted_QIG: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Scores of all items for some of the targets, computed with the others of their tile and its padding."""
        with torch.no_grad():
            query_QD = pass_.query_QD[tile]
            counted = pad_to_tile(torch.from_numpy(counted_QIG).to(query_QD.device))
            logits_QI = self._network.retrieval(query_QD, item_ID, counted)[: len(counted_QIG)]
        scores_QI: npt.NDArray[np.float32] = logits_QI.cpu().numpy()
        return scores_QI

    def ranking(self, pass_: Pass) -> tuple[Tensor, Tensor]:
        """Log odds of each action type for each new event as the stream holds it, then its scaled value, [E, K].

        First what is to be told, then what the experts of the ranking head give by themselves.

        Where only a share r of the exposures without an action is in the stream, the odds in it are those among all
        exposures over r, as long as an action of another type is rare beside none (King & Zeng 2001). The network
        gives the odds among all, so log r is taken off its log odds.
        """
        outputs = pass_.outputs
        padded = (pad_to_tile(x) for x in (outputs.target_ED, outputs.item_ED, pass_.rates_E3A))
        both = self._network.ranking(*padded)
        is_action_K = torch.arange(both[0].shape[1], device=both[0].device) < len(self._settings.actions)
        log_rate_E1 = torch.from_numpy(np.log(pass_.events.exposure_rates)).to(both[0]).unsqueeze(-1)
        told_EK, own_EK = (given_EK[: len(log_rate_E1)] - log_rate_E1 * is_action_K for given_EK in both)
        return told_EK, own_EK

    def ranking_loss(self, pass_: Pass, told_EK: Tensor, own_EK: Tensor) -> Tensor:
        """Mean over the new events, of both that `ranking` gave, and mean over those with a value."""
        num_actions, events = len(self._settings.actions), pass_.events
        actions_E = torch.from_numpy(events.actions).to(own_EK.device)
        late_E = torch.from_numpy(events.is_late & self._learn.delayed_feedback).to(own_EK.device)
        loss = action_loss(own_EK[:, :num_actions], actions_E, late_E).mean()
        if self._settings.action_rates:
            loss = loss + action_loss(told_EK[:, :num_actions], actions_E, late_E).mean()
        valued = np.flatnonzero(np.isfinite(events.values))
        if self._settings.predict_values and len(valued):
            scaled_V = torch.from_numpy(self._values.scaled(events.values[valued])).to(own_EK)
            own_V = own_EK[torch.from_numpy(valued).to(own_EK.device), num_actions]
            loss = loss + (own_V - scaled_V).square().mean() / 2
        return loss


def _distinct(rows: Integers, drawn: Tensor) -> Tensor:
    distinct: Tensor = torch.unique(torch.cat([torch.from_numpy(rows), drawn]))
    return distinct
