"""The bar of every ranking figure: how often an item and a user were acted on so far.

Shapes: E events, A action types, F the inputs that are weighed: 1, item, user, model.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.layout import Integers
from model.metrics import Floats

_PRIOR_EXPOSURES = 5.0
"""Exposures at the global rate that every item and user begins with."""
_RATE = 0.05
_EPSILON = 1e-8


def rate_bar_logits(
    users: Sequence[str],
    items: Sequence[str],
    actions_E: Integers,
    num_actions: int,
    model_EA: npt.NDArray[np.floating] | None = None,
) -> Floats:
    """Log odds [E, A] of each action for each exposure, from the exposures before it alone.

    logit(global rate) + b + w_1 (logit(item's rate) - logit(global rate)) + w_2 (the same of the user), with b and both
    weights of each action learned online by AdaGrad on the log loss, after each exposure is scored. With the log odds
    `model_EA` of a model, w_3 times what they are above logit(global rate) is added: what the model is worth beside
    the counts.
    """
    labels_EA = ((actions_E[:, None] >> np.arange(num_actions)) & 1).astype(np.float64)
    of_items, of_users = _Rates(num_actions), _Rates(num_actions)
    weights = _Weights(num_actions)
    totals_A, logits_EA = np.zeros(num_actions), np.zeros_like(labels_EA)
    for event, (user, item) in enumerate(zip(users, items, strict=True)):
        global_A = (totals_A + 1) / (event + 2)
        base_A = _log_odds(global_A)
        inputs_FA = np.stack(
            [
                np.ones(num_actions),
                _log_odds(of_items.rates(item, global_A)) - base_A,
                _log_odds(of_users.rates(user, global_A)) - base_A,
                np.zeros(num_actions) if model_EA is None else model_EA[event] - base_A,
            ]
        )
        logits_EA[event] = base_A + weights.sum(inputs_FA)
        weights.learn(inputs_FA, logits_EA[event], labels_EA[event])
        totals_A += labels_EA[event]
        of_items.update(item, labels_EA[event])
        of_users.update(user, labels_EA[event])
    return logits_EA


class _Weights:
    """Weights of the inputs for each action: at first the counts as they are, and nothing of a model."""

    def __init__(self, num_actions: int) -> None:
        self._weights_FA = np.array([[0.0], [1.0], [1.0], [0.0]]) * np.ones(num_actions)
        self._squares_FA = np.full_like(self._weights_FA, _EPSILON)

    def sum(self, inputs_FA: Floats) -> Floats:
        """Weighted sum of each action's inputs."""
        total_A: Floats = (self._weights_FA * inputs_FA).sum(0)
        return total_A

    def learn(self, inputs_FA: Floats, logits_A: Floats, labels_A: Floats) -> None:
        """One step of AdaGrad on the log loss."""
        slope_FA = (1 / (1 + np.exp(-logits_A)) - labels_A) * inputs_FA
        self._squares_FA += slope_FA**2
        self._weights_FA -= _RATE * slope_FA / np.sqrt(self._squares_FA)


class _Rates:
    """Exposures and actions of each key."""

    def __init__(self, num_actions: int) -> None:
        self._counts: dict[str, tuple[int, Floats]] = {}
        self._none = (0, np.zeros(num_actions))

    def rates(self, key: str, global_A: Floats) -> Floats:
        """Rate of each action, drawn to the global one while exposures are few."""
        exposures, actions_A = self._counts.get(key, self._none)
        rates_A: Floats = (actions_A + _PRIOR_EXPOSURES * global_A) / (exposures + _PRIOR_EXPOSURES)
        return rates_A

    def update(self, key: str, labels_A: Floats) -> None:
        """Count an exposure."""
        exposures, actions_A = self._counts.get(key, self._none)
        self._counts[key] = (exposures + 1, actions_A + labels_A)


def _log_odds(rate_A: Floats) -> Floats:
    return np.log(rate_A / (1 - rate_A))
