"""The learner's own figures as of now: of the last targets, and with a fading factor, beside those of the whole run.

Shapes: Q targets, E new events, I rows of the item table, N what a ring holds, S series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.batch import NewEvents
from model.drift import PageHinkley
from model.metrics import BinaryFigures, Floats, rank_gains
from model.prequential import Targets
from model.windows import EncodedSequence

WINDOW = 5_000
"""Targets, and labels, that a window holds."""
FADING = 0.999
"""What a target's weight keeps with each later one of its series (Gama et al. 2013, Machine Learning 90)."""
FRESH_MS = 3_600_000
"""An item is fresh for so long after its earliest event."""
SERIES = ("all", "fresh_items", "new_users")
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True, slots=True)
class RankFigures:
    """Rates at rank 10; NaN where there are no targets."""

    events: float
    """Targets; with a fading factor the sum of their weights."""
    hit_rate: float
    ndcg: float
    mrr: float


@dataclass(frozen=True, kw_only=True, slots=True)
class HeartbeatFigures:
    """Figures of first actions, by name of their series.

    `all`; `fresh_items`, on items whose earliest event is less than an hour older, unless it is the target itself;
    `new_users`, of users that had not acted before.
    """

    window: dict[str, RankFigures]
    """Over the last 5,000 targets."""
    fading: dict[str, RankFigures]
    total: dict[str, RankFigures]
    """Over all events after the warm-up."""
    auc: float
    """Of the positive action, over the last 5,000 labels."""
    normalized_entropy: float
    drift_alarms: int


class Ring:
    """The last rows of columns of numbers."""

    def __init__(self, size: int, num_columns: int) -> None:
        self.count = 0
        self._values = np.zeros((size, num_columns))

    def push(self, rows: Floats) -> None:
        """Add rows, the newest last, over the oldest ones."""
        places = self.count + np.arange(len(rows))
        newest = slice(max(0, len(rows) - len(self._values)), None)
        self._values[places[newest] % len(self._values)] = rows[newest]
        self.count += len(rows)

    def held(self) -> Floats:
        """What is in it, in no order; a view."""
        return self._values[: self.count]

    def load(self, held: Floats, count: int) -> None:
        """Take over what was held."""
        self._values[: len(held)] = held
        self.count = count


class Heartbeat:
    """Ranks and labels of the last targets, and when each row's item was first heard of."""

    def __init__(self, window: int = WINDOW) -> None:
        self.count_from = 0
        """Events with a smaller number are not in the totals (warm-up)."""
        self.drift = PageHinkley()
        self._ranks, self._labels = Ring(window, 3), Ring(window, 2)
        self._faded, self._totals = np.zeros((len(SERIES), 4)), np.zeros((len(SERIES), 4))
        self._first_ms = np.full(1_024, _NEVER)

    def note(self, rows: npt.NDArray[np.int64], ts_ms: npt.NDArray[np.int64]) -> None:
        """Events on rows, new or not."""
        missing = int(rows.max(initial=-1)) + 1 - len(self._first_ms)
        if missing > 0:
            room = np.full(max(missing, len(self._first_ms)), _NEVER)
            self._first_ms = np.concatenate([self._first_ms, room])
        np.minimum.at(self._first_ms, rows, ts_ms)

    def clear(self, rows: npt.NDArray[np.int64]) -> None:
        """Forget rows that belong to other items from now on."""
        self._first_ms[rows] = _NEVER

    def update(self, events: NewEvents, sequences: Sequence[EncodedSequence], targets: Targets) -> None:
        """Count the targets of a step."""
        events = events.select(events.is_target)
        new_Q, ts_ms_Q = np.zeros(len(events), np.bool_), np.zeros(len(events), np.int64)
        for query, (owner, index) in enumerate(zip(events.owners, events.indexes, strict=True)):
            sequence = sequences[owner]
            new_Q[query] = not sequence.actions[: sequence.group_starts[index]].any()
            ts_ms_Q[query] = sequence.seconds[index] * 1_000
        fresh_Q = (ts_ms_Q - self._first_ms[events.rows] < FRESH_MS) & ~np.isposinf(targets.ranks)
        main_Q = ~targets.repeat
        self.update_ranks(targets.numbers[main_Q], targets.ranks[main_Q], fresh_Q[main_Q], new_Q[main_Q])

    def update_ranks(
        self,
        numbers_Q: npt.NDArray[np.int64],
        ranks_Q: Floats,
        fresh_Q: npt.NDArray[np.bool_],
        new_Q: npt.NDArray[np.bool_],
    ) -> None:
        """Count targets whose series are known."""
        self._ranks.push(np.stack([ranks_Q, fresh_Q, new_Q], -1))
        gains_Q4 = rank_gains(ranks_Q)
        for series, member_Q in enumerate((np.ones_like(fresh_Q), fresh_Q, new_Q)):
            chosen = gains_Q4[member_Q]
            weights = FADING ** np.arange(len(chosen) - 1, -1, -1)
            self._faded[series] = self._faded[series] * FADING ** len(chosen) + weights @ chosen
            self._totals[series] += gains_Q4[member_Q & (numbers_Q >= self.count_from)].sum(0)
        self.drift.update(gains_Q4[:, 1])

    def update_labels(self, logits_E: Floats, labels_E: npt.NDArray[np.bool_], late_E: npt.NDArray[np.bool_]) -> None:
        """Count predicted log odds of the positive action, whether it came, if late (`BinaryFigures.update`)."""
        self._labels.push(np.stack([logits_E, labels_E + 2 * late_E], -1))

    def figures(self) -> HeartbeatFigures:
        """Everything as of now."""
        ranks_N, fresh_N, new_N = self._ranks.held().T
        gains_N4 = rank_gains(ranks_N)
        sums = [gains_N4[member_N > 0].sum(0) for member_N in (np.ones_like(fresh_N), fresh_N, new_N)]
        logits_N, labels_N = self._labels.held().T
        binary = BinaryFigures()
        binary.update(logits_N, labels_N % 2 > 0, labels_N >= 2)
        return HeartbeatFigures(
            window=_by_series(sums),
            fading=_by_series(self._faded),
            total=_by_series(self._totals),
            auc=binary.auc(),
            normalized_entropy=binary.normalized_entropy(),
            drift_alarms=self.drift.alarms,
        )

    def state(self, num_rows: int) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        arrays = {
            "heartbeat.numbers": np.array([self.count_from, self._ranks.count, self._labels.count]),
            "heartbeat.ranks": self._ranks.held().copy(),
            "heartbeat.labels": self._labels.held().copy(),
            "heartbeat.faded": self._faded.copy(),
            "heartbeat.totals": self._totals.copy(),
            "heartbeat.first_ms": self._first_ms[:num_rows].copy(),
        }
        return arrays | self.drift.state()

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self.count_from, num_ranks, num_labels = arrays["heartbeat.numbers"].tolist()
        self._ranks.load(arrays["heartbeat.ranks"], num_ranks)
        self._labels.load(arrays["heartbeat.labels"], num_labels)
        self._faded, self._totals = arrays["heartbeat.faded"].copy(), arrays["heartbeat.totals"].copy()
        self._first_ms = arrays["heartbeat.first_ms"].copy()
        self.drift.load(arrays)


def _by_series(sums: Sequence[Floats] | Floats) -> dict[str, RankFigures]:
    figures = {}
    for name, (events, *gains) in zip(SERIES, sums, strict=True):
        hit_rate, ndcg, mrr = (float(gain / events) if events else float("nan") for gain in gains)
        figures[name] = RankFigures(events=float(events), hit_rate=hit_rate, ndcg=ndcg, mrr=mrr)
    return figures
