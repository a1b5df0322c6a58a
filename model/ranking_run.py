"""Ranking of exposures, prequential: the log odds of every action on every exposure before it is learned.

Beside them the values that are predicted, and the ranks of the items that were acted on, among all that there were (see
`model.prequential`).

Shapes: E events, A action types.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from model.evaluation import NOTHING_KNOWN, Histories, Interaction, UserFeatures
from model.learner_arrays import learner_arrays, learner_of
from model.metrics import BinaryFigures, Floats
from model.online import OnlineLearner
from model.prequential import Targets, join_targets
from model.settings import LearnSettings, ModelSettings


class RankingRun:
    """A fresh learner over a data set, event by event in its order; users' features are by user and name."""

    def __init__(self, model: ModelSettings, learn: LearnSettings, user_features: UserFeatures = NOTHING_KNOWN) -> None:
        self.learner = OnlineLearner(model, learn)
        self.logits_EA = np.zeros((0, len(model.actions)), np.float32)
        self.values_E = np.zeros(0)
        self.targets = join_targets([])
        self._histories = Histories(user_features=user_features)

    def feed(self, events: Sequence[Interaction]) -> None:
        """Score, then learn, the next events, a micro-batch at a time."""
        size = self.learner.learn_settings.batch_events
        reports = [
            self.learner.step(self._histories.extend(list(events[start : start + size])))
            for start in range(0, len(events), size)
        ]
        self.logits_EA = np.concatenate([self.logits_EA, *(report.action_logits_EA for report in reports)])
        self.values_E = np.concatenate([self.values_E, *(report.values_E for report in reports)])
        self.targets = join_targets([self.targets, *(report.targets for report in reports)])

    def state(self) -> dict[str, np.ndarray]:
        """Copies of everything but the users' histories."""
        told = {"logits": self.logits_EA.copy(), "values": self.values_E.copy()}
        targets = {f"targets/{name}": getattr(self.targets, name).copy() for name in Targets.__slots__}
        return learner_arrays(self.learner) | targets | told

    def load(self, arrays: Mapping[str, np.ndarray], events: Sequence[Interaction]) -> None:
        """Take over a `state`, and the histories of the events that it is after."""
        self.learner = learner_of(arrays, self.learner.model_settings, self.learner.learn_settings)
        self.logits_EA, self.values_E = arrays["logits"], arrays["values"]
        self.targets = Targets(**{name: arrays[f"targets/{name}"] for name in Targets.__slots__})
        for start in range(0, len(events), self.learner.learn_settings.batch_events):
            self._histories.extend(list(events[start : start + self.learner.learn_settings.batch_events]))


def ranking_figures(logits_E: Floats, labels_E: np.ndarray) -> dict[str, float]:
    """AUC with the half width of its 95 % interval, and normalized entropy; NaN where a label is absent.

    The interval is that of Hanley & McNeil 1982, which takes events for independent.
    """
    figures = BinaryFigures()
    figures.update(logits_E.astype(np.float64), labels_E.astype(np.bool_))
    auc, positives = figures.auc(), float(np.count_nonzero(labels_E))
    negatives = len(labels_E) - positives
    of_two_positives, of_two_negatives = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc)
    spread += (positives - 1) * (of_two_positives - auc * auc) + (negatives - 1) * (of_two_negatives - auc * auc)
    half_width = 1.96 * (spread / (positives * negatives)) ** 0.5 if positives and negatives else float("nan")
    return {"auc": auc, "auc_half_width": half_width, "ne": figures.normalized_entropy()}
