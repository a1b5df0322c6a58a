"""Ranks of retrieval targets before they are learned: the model's scores, and counts that follow the stream at once.

Shapes: Q targets, I columns of the item table, G kinds of counts, C columns that a target is learned against.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from model.batch import NewEvents
from model.candidates import leave_out_seen
from model.layout import Integers
from model.living_items import LivingItems
from model.objective import Objective, Pass
from model.popularity import Popularity
from model.prequential import Targets, candidate_ranks, join_targets
from model.rivals import Rivals, join_rivals
from model.settings import TILE, ModelSettings
from model.transition_memory import TransitionMemory, last_acted
from model.windows import EncodedSequence


class Scoring:
    """Popularity and transition memory of one stream: read before each event, and then told of it."""

    def __init__(self, settings: ModelSettings, items: LivingItems) -> None:
        self._settings, self._items = settings, items
        self.popularity, self.memory = Popularity(), TransitionMemory()

    def score(self, objective: Objective, pass_: Pass, encoded: Sequence[EncodedSequence]) -> tuple[Targets, Rivals]:
        """Rank every retrieval target by the model and by popularity, a tile of queries at a time, and count it."""
        events = pass_.events.select(pass_.events.is_target)
        columns, num_columns = pass_.columns, objective.num_columns
        num_learned = num_columns if columns is None else len(columns)
        parts, item_ID = [], objective.items(pass_)
        rivals = [
            Rivals(
                np.zeros((0, num_columns), np.bool_), np.zeros((0, num_learned, len(self._settings.counts)), np.float32)
            )
        ]
        for start in range(0, len(events), TILE):
            tile = events.select(slice(start, start + TILE))
            popular_QI = self.popularity.before_each(tile.rows, num_columns)
            counted_QIG = self._counted(tile, encoded, popular_QI)
            scores_QI = objective.scores(pass_, slice(start, start + TILE), item_ID, counted_QIG)
            candidates_QI = self._items.candidates(tile, num_columns)
            repeat_Q = leave_out_seen(candidates_QI, tile, encoded)
            self.popularity.update(tile.rows)
            parts.append(
                Targets(
                    numbers=tile.numbers,
                    ranks=candidate_ranks(scores_QI, tile.rows, candidates_QI),
                    popularity_ranks=candidate_ranks(popular_QI, tile.rows, candidates_QI),
                    positive=(tile.actions >> self._settings.positive_index) & 1 == 1,
                    repeat=repeat_Q,
                )
            )
            learned_QCG = counted_QIG if columns is None else counted_QIG[:, columns]
            rivals.append(Rivals(candidates_QI, learned_QCG))
        return join_targets(parts), join_rivals(rivals)

    def clear(self, rows: Integers) -> None:
        """Forget items whose rows were taken back."""
        for part in (self.popularity, self.memory):
            part.clear(rows)

    def state(self, num_rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Copies of (what serving needs, what else `load` needs)."""
        counts = {"items.count": self.popularity.counts(num_rows).astype(np.float32)}
        return counts | self.memory.state(num_rows), self.popularity.state(num_rows)

    def load(self, model: Mapping[str, np.ndarray], trainer: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self.memory.load(model)
        self.popularity.load(trainer)

    def _counted(
        self, tile: NewEvents, encoded: Sequence[EncodedSequence], popular_QI: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Logs of 1 + what each target's user was likely to go on with, and of 1 + how popular it is, [Q, I, G]."""
        kinds = []
        if self._settings.transition_memory:
            kinds.append(self._followed(tile, encoded, popular_QI.shape))
        if self._settings.popularity_prior:
            kinds.append(popular_QI.astype(np.float32))
        none = np.zeros((*popular_QI.shape, 0), np.float32)
        counted_QIG: npt.NDArray[np.float32] = np.log1p(np.stack(kinds, -1) if kinds else none)
        return counted_QIG

    def _followed(
        self, tile: NewEvents, encoded: Sequence[EncodedSequence], shape: tuple[int, ...]
    ) -> npt.NDArray[np.float32]:
        """What followed the last items of each target's user until then, [Q, I]; the target is noted."""
        followed_QI = np.zeros(shape, np.float32)
        for query, (owner, index, row) in enumerate(zip(tile.owners, tile.indexes, tile.rows.tolist(), strict=True)):
            sequence = encoded[owner]
            end = sequence.group_starts[index]
            # An item without a row leads nowhere.
            recent = last_acted(sequence.rows[:end], sequence.actions[:end] * (sequence.rows[:end] > 0))
            rows_M, strengths_M = self.memory.read(recent)
            np.add.at(followed_QI[query], rows_M, strengths_M)
            if row > 0:
                self.memory.note(recent, row)
        return followed_QI
