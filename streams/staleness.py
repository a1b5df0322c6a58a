"""The cost of staleness: what the newest published version would have answered, beside what the learner knew.

The learner's hit rate is that of weights which have learned all up to the last step. People are answered by a version,
which is seconds old. So the version is asked about some of the targets that the learner has just scored, as a server
would ask it, with the same history. It has the averages that are served, so the difference holds their worth, too.

The figures depend on when versions were published: none restores them, and they begin anew with the process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from model.batch import order_events
from model.heartbeat import WINDOW, Ring
from model.metrics import CUTOFF, Floats
from model.prequential import Targets
from model.recommender import Recommender
from model.sequence import UserSequence
from model.settings import ModelSettings
from model.windows import group_starts


class Staleness:
    """Hits of learner and served version on the same targets: those whose number in the stream `every` divides.

    With `every` 0 it does nothing.
    """

    def __init__(self, settings: ModelSettings, every: int, window: int = WINDOW) -> None:
        self.settings = settings
        self.every = every
        self._served: Recommender | None = None
        # Of each target: 1, and whether the learner hit, the version hit, the version did not know the item, and the
        # learner hit such an item.
        self._window, self._totals = Ring(window, 5), np.zeros(5)

    def serve(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Ask the version with these arrays for serving from now on; another thread may be counting."""
        if self.every:
            self._served = Recommender.from_state(self.settings, arrays)

    def count(self, sequences: Sequence[UserSequence], targets: Targets) -> None:
        """Count targets of the main series, which a step has scored of these sequences; none before a first version."""
        served = self._served
        if served is None:
            return
        chosen = np.flatnonzero(~targets.repeat & (targets.numbers % self.every == 0))
        if not len(chosen):
            return
        events = order_events(sequences, 0)
        events = events.select(events.is_target)
        rows = [
            _hits(served, sequences[events.owners[target]], int(events.indexes[target]), targets.ranks[target])
            for target in chosen
        ]
        self._window.push(np.array(rows))
        self._totals += np.sum(rows, 0)

    def figures(self) -> dict[str, float]:
        """Rates at rank 10, of all targets and, as `window_*`, of the last 5,000; NaN where there are none."""
        if not self.every:
            return {}
        recent = _rates(self._window.held().sum(0))
        return _rates(self._totals) | {f"window_{name}": value for name, value in recent.items()}


def history_before(sequence: UserSequence, event: int) -> UserSequence:
    """What is known of the user as an event comes: events of earlier groups, and features as of its time."""
    end = int(group_starts(sequence.groups)[event])
    return replace(
        sequence,
        item_ids=sequence.item_ids[:end],
        ts_ms=sequence.ts_ms[:end],
        actions=sequence.actions[:end],
        values=sequence.values[:end],
        groups=sequence.groups[:end],
        new=np.zeros(end, np.int64),
        order=np.zeros(end, np.int64),
        features=[told for told in sequence.features if told.ts_ms <= sequence.ts_ms[event]],
    )


def _hits(served: Recommender, sequence: UserSequence, event: int, rank: float) -> tuple[float, ...]:
    """A target's row of the window."""
    item_id, learner_hit = sequence.item_ids[event], float(rank <= CUTOFF)
    if not served.contains(item_id):
        return 1.0, learner_hit, 0.0, 1.0, learner_hit
    now_ms = int(sequence.ts_ms[event])
    answer = served.recommend(history_before(sequence, event), now_ms=now_ms, k=CUTOFF)
    return 1.0, learner_hit, float(item_id in dict(answer)), 0.0, 0.0


def _rates(sums_5: Floats) -> dict[str, float]:
    targets, learner_hits, served_hits, unseen, unseen_hits = sums_5.tolist()
    return {
        "staleness_targets": targets,
        "learner_hit_rate": _share(learner_hits, targets),
        "served_hit_rate": _share(served_hits, targets),
        "staleness_cost": _share(learner_hits - served_hits, targets),
        "unseen_items_share": _share(unseen, targets),
        "unseen_items_hit_rate": _share(unseen_hits, unseen),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
