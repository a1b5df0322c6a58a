"""A prequential run that is kept after each twentieth of its events, with the curve of its figures."""

from typing import Any

import numpy as np

from deploy.run_state import RunState
from model.evaluation import EventRank
from model.learner_arrays import learner_arrays, learner_of
from model.online import OnlineLearner
from model.prequential import PrequentialFigures
from model.settings import LearnSettings, ModelSettings
from streams.dataset import Dataset

NUM_PARTS = 20


class KeptRun:
    """The learner, the ranks and the curve of a run, fresh or as they were when it was last kept."""

    def __init__(self, state: RunState, dataset: Dataset, model: ModelSettings, learn: LearnSettings) -> None:
        saved = state.load()
        self.rows: list[dict[str, Any]] = saved.rows
        self.ranks: list[EventRank] = []
        self.learner = learner_of(saved.arrays, model, learn) if self.rows else OnlineLearner(model, learn)
        if self.rows:
            columns = zip(saved.arrays["ranks.event"].tolist(), saved.arrays["ranks.rank"].tolist(), strict=True)
            self.ranks += [
                EventRank(event=event, user_id=dataset.user_ids[event], item_id=dataset.item_ids[event], rank=rank)
                for event, rank in columns
            ]
        self._state = state
        self._num_events = len(dataset)

    def note(self, events: int, figures: PrequentialFigures) -> None:
        """Keep the run if another twentieth is done; raises `SetupError` where that cannot be written."""
        if not add_row(self.rows, events, figures, self._num_events):
            return
        ranks = {
            "ranks.event": np.array([rank.event for rank in self.ranks], np.int64),
            "ranks.rank": np.array([rank.rank for rank in self.ranks], np.float64),
        }
        self._state.save(learner_arrays(self.learner) | ranks, self.rows)


def add_row(rows: list[dict[str, Any]], events: int, figures: PrequentialFigures, total: int) -> bool:
    """Add the figures so far, and of the part alone, to a curve where another twentieth is done; whether it was."""
    done = rows[-1]["events"] * NUM_PARTS // total if rows else 0
    if events * NUM_PARTS // total == done:
        return False
    main = figures.main
    row: dict[str, Any] = {"events": events, "targets": main.events}
    before = rows[-1]["targets"] if rows else 0
    for name, rate in (("hit_rate", main.hit_rate), ("popularity_hit_rate", main.popularity_hit_rate)):
        # Hits are whole numbers, so that a rate of six digits gives them back.
        hits_before = round((rows[-1][name] or 0) * before) if rows else 0
        row[name] = round(rate, 6) if main.events else None
        new = main.events - before
        row[f"recent_{name}"] = round((round(rate * main.events) - hits_before) / new, 6) if new else None
    rows.append(row)
    return True
