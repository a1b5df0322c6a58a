"""Answers from the arrays of one version: which items next, and what a user would do with given items.

Shapes: I rows of the item table, L those that are an item's, T tokens of one window, S of them with an unknown item, M
words of an item, E items that are asked about, D width, K what the ranking head gives.
"""

import heapq
from collections.abc import Callable, Container, Iterator, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model.action_rates import ActionRates
from model.batch import SequenceItems, encode_sequence
from model.contents import Contents
from model.forward import pad_to_tile
from model.hstu import HSTU
from model.item_index import item_index
from model.item_keys import item_keys
from model.item_names import ItemNames
from model.item_score import ItemScore
from model.layout import Integers
from model.network import Network, load_dense
from model.question import BestItems
from model.retrieval_head import unit_rows
from model.sequence import NOBODY, UserSequence
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
        self.identity = object()
        """Stands for these weights, and does not keep them."""
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
        self._popularity_I = np.log1p(arrays["items.count"]) * np.float32(self._gates.get("popularity", 0.0))
        bias_L = torch.from_numpy(self._popularity_I[self._shown])
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

    @property
    def encoder(self) -> HSTU:
        """What users' histories are encoded with."""
        return self._network.backbone

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
        question = BestItems(sequence=sequence, now_ms=now_ms, k=k, unavailable=unavailable)
        return self.best_items([question], self._query(sequence, now_ms).unsqueeze(0))[0]

    @torch.inference_mode()
    def best_items(self, questions: Sequence[BestItems], queries_QD: Tensor) -> list[list[tuple[str, float]]]:
        """What `recommend` answers each, given who each user is now (see `history`)."""
        acted, boosted = [], []
        for question, query_D in zip(questions, queries_QD, strict=True):
            sequence = question.sequence
            acted.append({item_id for item_id, mask in zip(sequence.item_ids, sequence.actions, strict=True) if mask})
            boosted.append(self._boosted(query_D, sequence))
        most = max(q.k + len(done) + len(own) for q, done, own in zip(questions, acted, boosted, strict=True))
        orders = self.index.each_best_first(queries_QD, most)
        return [self._listed(*parts) for parts in zip(questions, acted, boosted, orders, strict=True)]

    def _listed(
        self, question: BestItems, acted: Set[str], boosted: dict[int, float], order: Iterator[tuple[int, float]]
    ) -> list[tuple[str, float]]:
        others = (pair for pair in order if pair[0] not in boosted)
        answer: list[tuple[str, float]] = []
        for place, score in heapq.merge(boosted.items(), others, key=lambda pair: -pair[1]):
            if len(answer) == question.k or not np.isfinite(score):
                break
            item_id = self._item_ids[self._shown[place]]
            if item_id not in acted and item_id not in question.unavailable:
                answer.append((item_id, score / self._temperature))
        return answer

    def _boosted(self, query_D: Tensor, sequence: UserSequence) -> dict[int, float]:
        """Score by place of the items that followed the user's last ones, best first."""
        if "transitions" not in self._gates:
            return {}
        rows = self._rows_of(sequence.item_ids)
        rows_M, strengths_M = self._memory.read(last_acted(rows, sequence.actions * (rows > 0)))
        places_M = self._places_I[rows_M]
        places_U, of_U_M = np.unique(places_M[places_M >= 0], return_inverse=True)
        strengths_U = np.bincount(of_U_M, strengths_M[places_M >= 0], len(places_U))
        scores_U = self.index.scores(query_D, places_U) + self._gates["transitions"] * np.log1p(strengths_U)
        order = np.argsort(-scores_U, kind="stable")
        return dict(zip(places_U[order].tolist(), scores_U[order].tolist(), strict=True))

    @torch.inference_mode()
    def scores(self, sequence: UserSequence, *, now_ms: int, item_ids: Sequence[str]) -> list[ItemScore]:
        """What retrieval gives each item, in the order asked, whether it may be shown or not."""
        query_D = self._query(sequence, now_ms)
        rows = self._rows_of(item_ids)
        item_ED, unknown = self._weight[rows], np.flatnonzero(rows == 0)
        keys = self._contents.known_keys(item_keys(item_ids[place] for place in unknown.tolist()))
        item_ED[unknown] = self._network.shared(keys) + self._network.content(self._contents.words(keys))
        acted = last_acted(own := self._rows_of(sequence.item_ids), sequence.actions * (own > 0))
        rows_M, strengths_M = self._memory.read(acted)
        followed_E = (strengths_M * (rows_M == rows[:, None])).sum(1)
        # In units of the cosine, as all that is counted here.
        parts_E3 = np.stack(
            [
                (unit_rows(item_ED) @ query_D).numpy(),
                np.where(rows > 0, self._popularity_I[rows], 0),
                self._gates.get("transitions", 0.0) * np.log1p(followed_E),
            ],
            -1,
        )
        parts = (parts_E3 / self._temperature).tolist()
        return [
            ItemScore(similarity, popularity, transitions, row > 0)
            for (similarity, popularity, transitions), row in zip(parts, rows.tolist(), strict=True)
        ]

    @torch.inference_mode()
    def rank(self, sequence: UserSequence, *, now_ms: int, item_ids: Sequence[str]) -> list[dict[str, float]]:
        """Probability of each action for each item, in the order asked; an unknown id is what its shared rows are."""
        return self._probabilities(self._ranked(sequence, now_ms, item_ids))

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
        batch = self._batch(self._window(sequence, now_ms, item_ids))
        items_ED, targets_ED = (x_TD[batch.targets_E] for x_TD in self._encode(batch))
        return self._told(item_ids, items_ED, targets_ED, self._network.seen(batch))

    def history(self, sequence: UserSequence, now_ms: int) -> tuple[Window, int]:
        """The window that an event at `now_ms` would be scored in, and its number of tokens.

        The last token's unit vector is what `best_items` wants.
        """
        window = self._window(sequence, now_ms, [])
        return window, 1 + self._network.token_order.tokens_per_event * window.end

    @torch.inference_mode()
    def tokens(self, windows: Sequence[Window]) -> tuple[WindowBatch, Tensor]:
        """Windows without targets as one batch, and what `encoder` is given for it, [T, D]."""
        batch = batch_windows(windows, 0, self._network.token_order, torch.device("cpu"))
        return batch, self._network.tokens(self._embedded(batch), batch)

    @torch.inference_mode()
    def rank_behind(
        self, window: Window, item_ids: Sequence[str], now_ms: int, score: Callable[[Tensor], Tensor]
    ) -> list[dict[str, float]]:
        """What `rank` answers, given the history, and what encodes items [E, D] as targets behind it."""
        asked = self._batch(self._window(NOBODY, now_ms, item_ids))
        items_TD = self._embedded(asked)
        targets_ED = score(self._network.tokens(items_TD, asked)[asked.targets_E])
        seen_F = self._rates.counts(window.sequence.actions[: window.end][~window.sequence.is_feature[: window.end]])
        seen_EF = torch.from_numpy(seen_F).expand(len(item_ids), -1)
        return self._probabilities(self._told(item_ids, items_TD[asked.targets_E], targets_ED, seen_EF))

    def _told(self, item_ids: Sequence[str], items_ED: Tensor, targets_ED: Tensor, seen_EF: Tensor) -> Tensor:
        """What the ranking head gives, [E, K], for items as the backbone was given them and what it gave for them."""
        rates_E3A = pad_to_tile(self._rates.inputs(self._rows_of(item_ids), seen_EF))
        told_EK: Tensor = self._network.ranking(pad_to_tile(targets_ED), pad_to_tile(items_ED), rates_E3A)[0]
        return told_EK[: len(item_ids)]

    def _probabilities(self, told_EK: Tensor) -> list[dict[str, float]]:
        names = self.settings.actions
        rows: list[list[float]] = torch.sigmoid(told_EK[:, : len(names)]).tolist()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _query(self, sequence: UserSequence, now_ms: int) -> Tensor:
        """Unit vector [D] of the last token of the history: what the next item is retrieved with."""
        window, num_tokens = self.history(sequence, now_ms)
        return self._encode(self._batch(window))[1][num_tokens - 1]

    def _encode(self, batch: WindowBatch) -> tuple[Tensor, Tensor]:
        """Items as the backbone is given them, and what it gives, [T, D] each."""
        item_TD = self._embedded(batch)
        return item_TD, self._network(item_TD, batch)

    def _embedded(self, batch: WindowBatch) -> Tensor:
        """Items as the backbone is given them, [T, D]."""
        return self._network.embed(self._weight[batch.rows_T], batch, self._contents.words(batch.unknown_keys_S))

    def _rows_of(self, item_ids: Sequence[str]) -> Integers:
        return np.array([self._rows.get(item_id, 0) for item_id in item_ids], np.int64)

    def _items(self, item_ids: Sequence[str]) -> SequenceItems:
        """Rows of items, and the keys of those without one: nobody asks for the others'."""
        rows = self._rows_of(item_ids)
        keys, unknown = np.zeros_like(rows), np.flatnonzero(rows == 0)
        keys[unknown] = self._contents.known_keys(item_keys(item_ids[place] for place in unknown.tolist()))
        return SequenceItems(keys, rows)

    def _window(self, sequence: UserSequence, now_ms: int, targets: Sequence[str]) -> Window:
        """The window that a new event at `now_ms` would be scored in."""
        order, count = self._network.token_order, len(sequence.item_ids)
        # What is asked about, or an event that nobody reads, follows the history: it brings the time.
        asked = targets if len(targets) else [""]
        now = replace(
            sequence,
            ts_ms=np.r_[sequence.ts_ms, np.full(len(asked), now_ms)],
            actions=np.r_[sequence.actions, np.zeros(len(asked), np.int64)],
            groups=np.r_[sequence.groups, np.full(len(asked), sequence.groups.max(initial=0) + 1)],
            new=np.zeros(count + len(asked), np.int64),
        )
        places = np.full(count + len(asked), -1)
        items = self._items([*sequence.item_ids, *asked])
        encoded, at = encode_sequence(now, items, places, self.settings)
        entries, length = history(encoded, int(at[count]), self.settings.window, order)
        return Window(
            encoded.pick(np.r_[entries, at[count:]]),
            len(entries),
            length,
            len(entries) + np.arange(len(targets)),
        )

    def _batch(self, window: Window) -> WindowBatch:
        """A window alone, with room for its targets."""
        room = -(-len(window.targets) // TILE) * TILE
        return batch_windows([window], room, self._network.token_order, torch.device("cpu"))
