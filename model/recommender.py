"""Answers from the arrays of one version: which items next, and what a user would do with given items.

Shapes: I items, T tokens of one window, E items that are asked about, D width, K what the ranking head gives.
"""

import heapq
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model.action_rates import ActionRates
from model.batch import encode_sequence
from model.forward import pad_to_tile
from model.item_index import item_index
from model.item_table import unpack_ids
from model.layout import Integers
from model.network import Network, load_dense
from model.retrieval_head import unit_rows
from model.sequence import UserSequence
from model.settings import TILE, ModelSettings
from model.transition_memory import TransitionMemory, last_acted
from model.value_scale import ValueScale
from model.window_batch import WindowBatch, batch_windows
from model.windows import Window, history


class Recommender:
    """Pure inference on the CPU; nothing that it is asked changes it, so that threads may share it."""

    def __init__(
        self, settings: ModelSettings, network: Network, arrays: Mapping[str, np.ndarray], exact_items: int | None
    ) -> None:
        item_ids = unpack_ids(arrays["items.id_bytes"], arrays["items.id_ends"])
        weight = torch.from_numpy(arrays["items.weight"].copy())
        if weight.shape != (len(item_ids), settings.dim):
            raise ValueError(f"items.weight must have shape {(len(item_ids), settings.dim)}, got {tuple(weight.shape)}")
        self.settings = settings
        self._network = network.eval()
        self._item_ids = item_ids
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}
        self._rates, self._values, self._memory = ActionRates(len(settings.actions)), ValueScale(), TransitionMemory()
        for part in (self._rates, self._values, self._memory):
            part.load(arrays)
        # The last row stands for every unknown id.
        mean = weight.mean(0, keepdim=True) if len(weight) else torch.zeros(1, settings.dim)
        self._weight = torch.cat([weight, mean])
        retrieval = network.retrieval
        self._temperature = retrieval.temperature().item()
        # Scores are in units of the cosine: what is counted is multiplied by the temperature instead.
        gates = (retrieval.gates * self._temperature).tolist()
        self._gates = dict(zip(settings.counts, gates, strict=True))
        bias_I = torch.log1p(torch.from_numpy(arrays["items.count"].copy())) * self._gates.get("popularity", 0.0)
        self.index = item_index(unit_rows(weight), bias_I, exact_items)

    @classmethod
    def from_state(
        cls, settings: ModelSettings, arrays: Mapping[str, np.ndarray], *, exact_items: int | None = None
    ) -> "Recommender":
        """From the first half of `OnlineLearner.state()`.

        Of a catalogue of more than `exact_items`, only the clusters nearest to a user are looked at (see `item_index`).
        Raises `ValueError` where the arrays do not fit the settings.
        """
        network = Network(settings)
        load_dense(network, arrays)
        return cls(settings, network, arrays, exact_items)

    @property
    def num_items(self) -> int:
        """Items that can be recommended."""
        return len(self._item_ids)

    def contains(self, item_id: str) -> bool:
        """Whether the item has a row."""
        return item_id in self._rows

    @torch.inference_mode()
    def recommend(
        self, sequence: UserSequence, *, now_ms: int, k: int, unavailable: Container[str] = ()
    ) -> list[tuple[str, float]]:
        """Up to k (item id, score), best first, without what the user acted on and what is unavailable.

        A user without history is answered from BOS. Raises `ValueError` for k < 1.
        """
        if k < 1:
            raise ValueError(f"k must be >= 1, got {k}")
        batch, last = self._window(sequence, now_ms, np.zeros(0, np.int64))
        query_D = self._encode(batch)[1][last]
        acted = {item_id for item_id, mask in zip(sequence.item_ids, sequence.actions, strict=True) if mask}
        answer: list[tuple[str, float]] = []
        for row, score in self._best_first(query_D, sequence, k + len(acted)):
            if len(answer) == k or not np.isfinite(score):
                break
            if self._item_ids[row] not in acted and self._item_ids[row] not in unavailable:
                answer.append((self._item_ids[row], score / self._temperature))
        return answer

    def _best_first(self, query_D: Tensor, sequence: UserSequence, count: int) -> Iterator[tuple[int, float]]:
        """Row and score of all items, best first: of those that followed the user's last ones, and of the others."""
        if "transitions" not in self._gates:
            return self.index.best_first(query_D, count)
        rows = np.array([self._rows.get(item_id, -1) for item_id in sequence.item_ids], np.int64)
        rows_M, strengths_M = self._memory.read(last_acted(rows, sequence.actions))
        rows_U, places_M = np.unique(rows_M, return_inverse=True)
        boosts_U = self._gates["transitions"] * np.log1p(np.bincount(places_M, strengths_M, len(rows_U)))
        scores_U = self.index.scores(query_D, rows_U) + boosts_U
        order = np.argsort(-scores_U, kind="stable")
        boosted = zip(rows_U[order].tolist(), scores_U[order].tolist(), strict=True)
        own = set(rows_U.tolist())
        others = (pair for pair in self.index.best_first(query_D, count + len(own)) if pair[0] not in own)
        return heapq.merge(boosted, others, key=lambda pair: -pair[1])

    @torch.inference_mode()
    def rank(self, sequence: UserSequence, *, now_ms: int, item_ids: Sequence[str]) -> list[dict[str, float]]:
        """Probability of each action for each item, in the order asked; an unknown id has the mean item's row."""
        probability_EA = torch.sigmoid(self._ranked(sequence, now_ms, item_ids))
        return [dict(zip(self.settings.actions, row, strict=False)) for row in probability_EA.tolist()]

    @torch.inference_mode()
    def values(self, sequence: UserSequence, *, now_ms: int, item_ids: Sequence[str]) -> list[float]:
        """The value to expect with an action on each item; raises `ValueError` where the model predicts none."""
        if not self.settings.predict_values:
            raise ValueError("predict_values must be set when the model is learned, got False")
        scaled_E = self._ranked(sequence, now_ms, item_ids)[:, len(self.settings.actions)]
        values: list[float] = self._values.values(scaled_E.numpy().astype(np.float64)).tolist()
        return values

    def _ranked(self, sequence: UserSequence, now_ms: int, item_ids: Sequence[str]) -> Tensor:
        """What the ranking head gives for each item, [E, K]."""
        unknown = self.num_items
        rows = np.array([self._rows.get(item_id, unknown) for item_id in item_ids], np.int64)
        batch, _ = self._window(sequence, now_ms, rows)
        items_ED, targets_ED = (pad_to_tile(x_TD[batch.targets_E]) for x_TD in self._encode(batch))
        rates_E3A = pad_to_tile(self._rates.inputs(rows, self._network.seen(batch)))
        told_EK: Tensor = self._network.ranking(targets_ED, items_ED, rates_E3A)[0][: len(rows)]
        return told_EK

    def _encode(self, batch: WindowBatch) -> tuple[Tensor, Tensor]:
        """Items as the backbone is given them, and what it gives, [T, D] each."""
        item_TD = self._network.embed(self._weight[batch.rows_T], batch)
        return item_TD, self._network(item_TD, batch)

    def _window(self, sequence: UserSequence, now_ms: int, target_rows: Integers) -> tuple[WindowBatch, int]:
        """The window that a new event at `now_ms` would be scored in, and the index of its last history token."""
        order, count = self._network.token_order, len(sequence.item_ids)
        # What is asked about, or row 0 as an event that nobody reads, follows the history: it brings the time.
        asked = target_rows if len(target_rows) else np.zeros(1, np.int64)
        rows = [self._rows.get(item_id, self.num_items) for item_id in sequence.item_ids]
        now = replace(
            sequence,
            ts_ms=np.r_[sequence.ts_ms, np.full(len(asked), now_ms)],
            actions=np.r_[sequence.actions, np.zeros(len(asked), np.int64)],
            groups=np.r_[sequence.groups, np.full(len(asked), sequence.groups.max(initial=0) + 1)],
            new=np.zeros(count + len(asked), np.int64),
        )
        places = np.full(count + len(asked), -1)
        encoded, at = encode_sequence(now, np.r_[rows, asked].astype(np.int64), places, self.settings.feature_rows)
        entries, length = history(encoded, int(at[count]), self.settings.window, order)
        window = Window(
            encoded.pick(np.r_[entries, at[count:]]),
            len(entries),
            length,
            len(entries) + np.arange(len(target_rows)),
        )
        room = -(-len(target_rows) // TILE) * TILE
        return batch_windows([window], room, order, torch.device("cpu")), order.tokens_per_event * len(entries)
