"""Whether servers should have a version: none whose numbers are broken, and at will none that foresees less."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class _Rate(NamedTuple):
    num_events: float
    """Targets of the whole run when it was taken."""
    num_targets: float
    """Newest ones of them that it is a share of."""
    hit_rate: float


class PublishGate:
    """Objects to a version with values that are not finite, and to one whose hit rate has fallen by `sigmas`.

    The hit rate over the last targets is compared with that of the newest version that passed and shares no target with
    it, in standard errors of the difference of two binomial shares. Targets of one user are alike, so that these errors
    are too small: 4 is a sigma for the careful. A stream that has become harder for good holds back, too, until the
    hit rate is back or the learner is started anew. With `sigmas` 0 no hit rate is an objection.
    """

    def __init__(self, sigmas: float) -> None:
        self.sigmas = sigmas
        self._passed: deque[_Rate] = deque()

    def objection(self, arrays: Mapping[str, npt.NDArray[Any]], metrics: Mapping[str, float]) -> str:
        """Why a version should be held back; empty where nothing is wrong, and it counts as passed."""
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return f"{name} holds values that are not finite"
        rate = _Rate(metrics["events"], metrics["window_events_all"], metrics["window_hit_rate_all"])
        if not self.sigmas or not rate.num_targets:
            return ""
        while len(self._passed) > 1 and _shares_nothing(self._passed[1], rate):
            self._passed.popleft()
        if self._passed and _shares_nothing(self._passed[0], rate):
            former, allowed = self._passed[0], self.sigmas * _standard_error(self._passed[0], rate)
            if former.hit_rate - rate.hit_rate > allowed:
                return (
                    f"the hit rate over the last {rate.num_targets:,.0f} targets fell from {former.hit_rate:.4f} to "
                    f"{rate.hit_rate:.4f}, by more than {self.sigmas:g} standard errors ({allowed:.4f})"
                )
        self._passed.append(rate)
        return ""


def _shares_nothing(former: _Rate, rate: _Rate) -> bool:
    return rate.num_events - former.num_events >= rate.num_targets


def _standard_error(one: _Rate, other: _Rate) -> float:
    num_hits = one.hit_rate * one.num_targets + other.hit_rate * other.num_targets
    share = num_hits / (one.num_targets + other.num_targets)
    return math.sqrt(share * (1 - share) * (1 / one.num_targets + 1 / other.num_targets))
