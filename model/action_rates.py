"""How often items, and users in what the model sees of them, were acted on: two counters that rank well by themselves.

Shapes: Q targets, I rows of the item table, A action types, F counts: exposures, then each action.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.batch import NewEvents
from model.growth import clear_rows, with_room
from model.layout import Integers
from model.sequence import NEW_ACTION, NEW_EXPOSURE

_ITEM_MEMORY = 1_000.0
"""Exposures of an item at which its counts are halved, so that they follow it."""
_TOTAL_MEMORY = 100_000.0
_PRIOR_EXPOSURES = 5.0
"""Exposures at the overall rate that every item and user begins with."""
_LEAST_RATE = 1e-4

Counts = npt.NDArray[np.float32]


class ActionRates:
    """Exposures of each item of the table and the actions on them, halved as they become many, and those of all."""

    def __init__(self, num_actions: int) -> None:
        self._counts_IF = np.zeros((1_024, num_actions + 1), np.float32)
        self._total_F = np.zeros(num_actions + 1, np.float32)

    def inputs(self, rows_Q: Integers, seen_QF: Tensor) -> Tensor:
        """What the ranking head is given for items of these rows and users of whom `seen_QF` is seen."""
        item_QF = self._with_room(int(rows_Q.max(initial=-1)) + 1)[rows_Q]
        return rate_inputs(torch.from_numpy(self._total_F), torch.from_numpy(item_QF), seen_QF)

    def counts(self, actions_E: Integers) -> Counts:
        """How many events these are, and how many of them have each action, [F]."""
        bits_EA = (actions_E[:, None] >> np.arange(len(self._total_F) - 1)) & 1
        counts_F: Counts = np.r_[len(actions_E), bits_EA.sum(0)].astype(np.float32)
        return counts_F

    def update(self, events: NewEvents) -> None:
        """Count the exposures among new events, and every first action.

        A bare exposure stands for those that were left out by chance, too. A further action is not counted, as its
        event does not say which of its actions is new.
        """
        shown_E = events.new & NEW_EXPOSURE != 0
        acted_E = shown_E | (events.new & NEW_ACTION != 0)
        bare_E = np.where(events.actions == 0, 1 / events.exposure_rates, 1.0)
        bits_EA = (events.actions[:, None] >> np.arange(len(self._total_F) - 1)) & 1
        added_EF = np.column_stack([shown_E * bare_E, bits_EA * acted_E[:, None]]).astype(np.float32)
        rows = np.unique(events.rows)
        counts_IF = self._with_room(int(rows.max(initial=-1)) + 1)
        np.add.at(counts_IF, events.rows, added_EF)
        counts_IF[rows[counts_IF[rows, 0] > _ITEM_MEMORY]] /= 2
        self._total_F += added_EF.sum(0)
        if self._total_F[0] > _TOTAL_MEMORY:
            self._total_F /= 2

    def clear(self, rows: Integers) -> None:
        """Forget items whose rows were taken back."""
        clear_rows(self._counts_IF, rows)

    def state(self, num_rows: int) -> dict[str, np.ndarray]:
        """Copies for serving and for `load`."""
        return {"rates.items": self._with_room(num_rows)[:num_rows].copy(), "rates.total": self._total_F.copy()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`; raises `ValueError` where it is of other actions."""
        for name, shape in (("rates.items", (-1, len(self._total_F))), ("rates.total", (len(self._total_F),))):
            array = arrays.get(name)
            if array is None or array.shape[-1:] != shape[-1:] or array.ndim != len(shape):
                got = "nothing" if array is None else array.shape
                raise ValueError(f"{name} must have shape {shape}, got {got}: other model settings?")
        self._counts_IF = arrays["rates.items"].copy()
        self._total_F = arrays["rates.total"].copy()

    def _with_room(self, num_rows: int) -> Counts:
        """Counts of at least so many rows."""
        self._counts_IF = with_room(self._counts_IF, num_rows)
        return self._counts_IF


def rate_inputs(total_F: Tensor, item_QF: Tensor, seen_QF: Tensor) -> Tensor:
    """Log odds of the overall rate of each action, and how far those of the item and of the user are from them.

    [Q, 3, A] from counts of everything, of each target's item, and of what each target sees of its user.
    """
    base_A = torch.logit(_bounded((total_F[1:] + 1) / (total_F[0] + 2))).to(seen_QF.device)
    rate_A = torch.sigmoid(base_A)
    of_Q = [
        torch.logit(_bounded((counts_QF[:, 1:] + _PRIOR_EXPOSURES * rate_A) / (counts_QF[:, :1] + _PRIOR_EXPOSURES)))
        for counts_QF in (item_QF.to(seen_QF.device), seen_QF)
    ]
    return torch.stack([base_A.expand_as(of_Q[0]), *(log_odds_QA - base_A for log_odds_QA in of_Q)], 1)


def _bounded(rate: Tensor) -> Tensor:
    # An action without its exposure, as after a restart from nothing, must not make a rate 1 or more.
    return rate.clamp(_LEAST_RATE, 1 - _LEAST_RATE)
