"""Answers from the arrays of one version: which items next, and what a user would do with given items.

Shapes: I rows of the item table, L those that are an item's, T tokens of one window, S of them with an unknown item, M
words of an item, E items that are asked about, D width, K what the ranking head gives.
"""

import heapq
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model.action_rates import ActionRates
from model.batch import SequenceItems, encode_sequence
from model.contents import Contents
from model.forward import pad_to_tile
from model.item_index import item_index
from model.item_keys import item_keys
from model.item_names import ItemNames
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
        self,
        settings: ModelSettings,
        network: Network,
        arrays: Mapping[str, np.ndarray],
        names: ItemNames,
        exact_items: int | None,
    ) -> None:
        item_ids = names.ids
        weight = torch.from_numpy(arrays["items.weight"].copy())
        live_I = arrays["items.live"]
        if weight.shape != (len(item_ids), settings.dim) or live_I.shape != (len(item_ids),):
            got = tuple(weight.shape), live_I.shape
            raise ValueError(
                f"items.weight and items.live must have shapes {(len(item_ids), settings.dim)} and {(len(item_ids),)}, "
                f"got {got}"
            )
        self.settings = settings
        self._network = network.eval()
        self.names, self._item_ids, self._rows = names, item_ids, names.rows
        # The index knows items that may be shown, by their places among the rows of these.
        live = np.flatnonzero(live_I)
        self._contents = Contents(len(arrays["contents.key"]), settings.content_rows)
        self._contents.load(arrays)
        keys_L = names.keys_I[live]
        with torch.no_grad():
            weight[live] += network.content(self._contents.words(keys_L))
        self._shown = live[~np.isin(keys_L, self._contents.hidden())]
        self._places_I = np.full(len(item_ids), -1)
        self._places_I[self._shown] = np.arange(len(self._shown))
        self._rates, self._values, self._memory = ActionRates(len(settings.actions)), ValueScale(), TransitionMemory()
        for part in (self._rates, self._values, self._memory):
            part.load(arrays)
        self._weight = weight
        retrieval = network.retrieval
        self._temperature = retrieval.temperature().item()
        # Scores are in units of the cosine: what is counted is multiplied by the temperature instead.
        gates = (retrieval.gates * self._temperature).tolist()
        self._gates = dict(zip(settings.counts, gates, strict=True))
        counts_L = torch.from_numpy(arrays["items.count"][self._shown])
        bias_L = torch.log1p(counts_L) * self._gates.get("popularity", 0.0)
        self.index = item_index(unit_rows(weight[self._shown]), bias_L, exact_items)

    @classmethod
    def from_state(
        cls,
        settings: ModelSettings,
        arrays: Mapping[str, np.ndarray],
        *,
        exact_items: int | None = None,
        former: "Recommender | None" = None,
    ) -> "Recommender":
        """From the first half of `OnlineLearner.state()`.

        Of a catalogue of more than `exact_items`, only the clusters nearest to a user are looked at (see `item_index`).
        What a `former` one knows of the same ids is used again, and the former stays as it is; the arrays are copied.
        Raises `ValueError` where the arrays do not fit the settings.
        """
        network = Network(settings)
        load_dense(network, arrays)
        names = ItemNames.of(arrays, None if former is None else former.names)
        return cls(settings, network, arrays, names, exact_items)

    @property
    def num_items(self) -> int:
        """Items that can be recommended."""
        return len(self._shown)

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
        batch, last = self._window(sequence, now_ms, [])
        query_D = self._encode(batch)[1][last]
        acted = {item_id for item_id, mask in zip(sequence.item_ids, sequence.actions, strict=True) if mask}
        answer: list[tuple[str, float]] = []
        for place, score in self._best_first(query_D, sequence, k + len(acted)):
            if len(answer) == k or not np.isfinite(score):
                break
            item_id = self._item_ids[self._shown[place]]
            if item_id not in acted and item_id not in unavailable:
                answer.append((item_id, score / self._temperature))
        return answer

    def _best_first(self, query_D: Tensor, sequence: UserSequence, count: int) -> Iterator[tuple[int, float]]:
        """Place and score of all items, best first: of those that followed the user's last ones, and of the others."""
        if "transitions" not in self._gates:
            return self.index.best_first(query_D, count)
        rows = self._rows_of(sequence.item_ids)
        rows_M, strengths_M = self._memory.read(last_acted(rows, sequence.actions * (rows > 0)))
        places_M = self._places_I[rows_M]
        places_U, of_U_M = np.unique(places_M[places_M >= 0], return_inverse=True)
        strengths_U = np.bincount(of_U_M, strengths_M[places_M >= 0], len(places_U))
        boosts_U = self._gates["transitions"] * np.log1p(strengths_U)
        scores_U = self.index.scores(query_D, places_U) + boosts_U
        order = np.argsort(-scores_U, kind="stable")
        boosted = zip(places_U[order].tolist(), scores_U[order].tolist(), strict=True)
        own = set(places_U.tolist())
        others = (pair for pair in self.index.best_first(query_D, count + len(own)) if pair[0] not in own)
        return heapq.merge(boosted, others, key=lambda pair: -pair[1])

    @torch.inference_mode()
    def rank(self, sequence: UserSequence, *, now_ms: int, item_ids: Sequence[str]) -> list[dict[str, float]]:
        """Probability of each action for each item, in the order asked; an unknown id is what its shared rows are."""
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
        rows = self._rows_of(item_ids)
        batch, _ = self._window(sequence, now_ms, item_ids)
        items_ED, targets_ED = (pad_to_tile(x_TD[batch.targets_E]) for x_TD in self._encode(batch))
        rates_E3A = pad_to_tile(self._rates.inputs(rows, self._network.seen(batch)))
        told_EK: Tensor = self._network.ranking(targets_ED, items_ED, rates_E3A)[0][: len(rows)]
        return told_EK

    def _encode(self, batch: WindowBatch) -> tuple[Tensor, Tensor]:
        """Items as the backbone is given them, and what it gives, [T, D] each."""
        words_SM = self._contents.words(batch.unknown_keys_S)
        item_TD = self._network.embed(self._weight[batch.rows_T], batch, words_SM)
        return item_TD, self._network(item_TD, batch)

    def _rows_of(self, item_ids: Sequence[str]) -> Integers:
        return np.array([self._rows.get(item_id, 0) for item_id in item_ids], np.int64)

    def _window(self, sequence: UserSequence, now_ms: int, targets: Sequence[str]) -> tuple[WindowBatch, int]:
        """The window that a new event at `now_ms` would be scored in, and the index of its last history token."""
        order, count = self._network.token_order, len(sequence.item_ids)
        # What is asked about, or an event that nobody reads, follows the history: it brings the time.
        asked = targets if len(targets) else [""]
        item_ids = [*sequence.item_ids, *asked]
        now = replace(
            sequence,
            ts_ms=np.r_[sequence.ts_ms, np.full(len(asked), now_ms)],
            actions=np.r_[sequence.actions, np.zeros(len(asked), np.int64)],
            groups=np.r_[sequence.groups, np.full(len(asked), sequence.groups.max(initial=0) + 1)],
            new=np.zeros(count + len(asked), np.int64),
        )
        places = np.full(count + len(asked), -1)
        items = SequenceItems(self._contents.known_keys(item_keys(item_ids)), self._rows_of(item_ids))
        encoded, at = encode_sequence(now, items, places, self.settings)
        entries, length = history(encoded, int(at[count]), self.settings.window, order)
        window = Window(
            encoded.pick(np.r_[entries, at[count:]]),
            len(entries),
            length,
            len(entries) + np.arange(len(targets)),
        )
        room = -(-len(targets) // TILE) * TILE
        return batch_windows([window], room, order, torch.device("cpu")), order.tokens_per_event * len(entries)
