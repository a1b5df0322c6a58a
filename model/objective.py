"""One forward pass over new and past events: the scores it gives, and the loss that it is then learned by.

Shapes: Q retrieval targets, P replayed targets, E new events, I rows of the item table (padded), S negatives, D width,
A action types, K what the ranking head gives, V events with a value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.action_rates import ActionRates
from model.batch import NewEvents
from model.forward import Leaf, NewOutputs, encode_new, encode_replay, pad_to_tile, rows_of
from model.item_table import ItemTable
from model.layout import Integers
from model.losses import action_loss, exact_softmax, sampled_softmax, weighted_mean
from model.network import Network
from model.popularity import Popularity
from model.settings import TILE, ModelSettings
from model.value_scale import ValueScale
from model.windows import EncodedSequence, Window

COLUMN_TILE = 8 * TILE
"""Table rows that are scored are padded to multiples of this."""


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
    rates_E3A: Tensor
    """Counted rates of each new event's item and user (see `rate_inputs`)."""


class Objective:
    """Retrieval and ranking over one backbone and one item table."""

    def __init__(
        self,
        settings: ModelSettings,
        network: Network,
        table: ItemTable,
        rates: ActionRates,
        values: ValueScale,
        generator: torch.Generator,
        target_weights: tuple[float, ...] = (),
    ) -> None:
        if len(target_weights) not in (0, len(settings.actions)):
            raise ValueError(f"target_weights must be none or one for each of {settings.actions}, got {target_weights}")
        self._weights_A = torch.tensor(target_weights)
        self._settings = settings
        self._network = network
        self._table = table
        self._rates = rates
        self._values = values
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
        rates_E3A = self._rates.inputs(events.rows, outputs.seen_EF)
        return Pass(events, outputs, query_QD, leaf, exact, drawn.to(device), rates_E3A)

    def scores(self, pass_: Pass, tile: slice) -> npt.NDArray[np.float32]:
        """Scores of all table rows for some of the targets (a whole tile, so that padding is the same for all)."""
        with torch.no_grad():
            logits_QI = self._network.retrieval(pass_.query_QD[tile], self._table.weight[: self.num_columns])
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

    def retrieval_loss(
        self,
        pass_: Pass,
        past: Sequence[EncodedSequence],
        popularity: Popularity,
        candidates_QI: npt.NDArray[np.bool_],
    ) -> Tensor:
        """Mean over new targets plus mean over replayed ones, weighted; the temperature is learned from new ones alone.

        What is no candidate of a new target, as the user has acted on it or the stream brought it later, is no
        competitor in its softmax either: serving filters it, so nothing is to be learned from it.
        """
        device = pass_.query_QD.device
        targets = pass_.events.select(pass_.events.is_target)
        target_Q, actions_Q = (torch.from_numpy(column).to(device) for column in (targets.rows, targets.actions))
        temperature = self._network.retrieval.temperature()
        loss = pass_.query_QD.sum() * 0
        if len(target_Q):
            query_QD = pass_.query_QD[: len(target_Q)]
            barred_QI = torch.from_numpy(~candidates_QI).to(device)
            barred_QI[torch.arange(len(target_Q)), target_Q] = False
            loss_Q = self._softmax(pass_, query_QD, target_Q, temperature, popularity, barred_QI)
            loss = loss + weighted_mean(loss_Q, actions_Q, self._weights_A)
        if past:
            # What is replayed fits better than what is new: it would make the softmax too sure of itself.
            past_PD, past_P, actions_P = encode_replay(self._network, pass_.leaf, past)
            loss_P = self._softmax(pass_, past_PD, past_P, temperature.detach(), popularity)
            loss = loss + weighted_mean(loss_P, actions_P, self._weights_A)
        return loss

    def ranking_loss(self, pass_: Pass, told_EK: Tensor, own_EK: Tensor) -> Tensor:
        """Mean over the new events, of both that `ranking` gave, and mean over those with a value."""
        num_actions, events = len(self._settings.actions), pass_.events
        actions_E = torch.from_numpy(events.actions).to(own_EK.device)
        loss = action_loss(own_EK[:, :num_actions], actions_E).mean()
        if self._settings.action_rates:
            loss = loss + action_loss(told_EK[:, :num_actions], actions_E).mean()
        valued = np.flatnonzero(np.isfinite(events.values))
        if self._settings.predict_values and len(valued):
            scaled_V = torch.from_numpy(self._values.scaled(events.values[valued])).to(own_EK)
            own_V = own_EK[torch.from_numpy(valued).to(own_EK.device), num_actions]
            loss = loss + (own_V - scaled_V).square().mean() / 2
        return loss

    def _softmax(
        self,
        pass_: Pass,
        query_QD: Tensor,
        target_Q: Tensor,
        temperature: Tensor,
        popularity: Popularity,
        barred_QI: Tensor | None = None,
    ) -> Tensor:
        """Loss of each target; sampled negatives are every target, as popular as it is, and uniform draws."""
        retrieval, num_rows = self._network.retrieval, len(self._table)
        if pass_.exact:
            logits_QI = retrieval.cosines(query_QD, pass_.leaf.value_UD[:num_rows]) / temperature
            if barred_QI is not None:
                logits_QI = logits_QI.masked_fill(barred_QI[:, :num_rows], -torch.inf)
            return exact_softmax(logits_QI, target_Q)
        sample_S = torch.cat([target_Q, pass_.drawn_S])
        counts = torch.from_numpy(popularity.counts(num_rows)).to(query_QD.device)
        share_S = (counts[sample_S] + 1) / (counts.sum() + num_rows)
        expected_S = len(target_Q) * share_S + len(pass_.drawn_S) / num_rows
        item_SD = pass_.leaf.value_UD[pass_.leaf.place(sample_S)]
        logits_QS = retrieval.cosines(query_QD, item_SD) / temperature
        own_Q = logits_QS.diagonal()
        hit_QS = sample_S == target_Q.unsqueeze(-1)
        if barred_QI is not None:
            hit_QS = hit_QS | barred_QI[:, sample_S]
        return sampled_softmax(own_Q, logits_QS, expected_S.log().float(), hit_QS)


def _distinct(rows: Integers, drawn: Tensor) -> Tensor:
    distinct: Tensor = torch.unique(torch.cat([torch.from_numpy(rows), drawn]))
    return distinct
