"""Whether a rate has fallen for good: the test of Page and Hinkley."""

from collections.abc import Mapping

import numpy as np

ALLOWED = 0.01
"""A fall by less is no drift."""
THRESHOLD = 50.0
"""Misses in excess that raise an alarm.

A steady rate of .2 gives a false one in some 400,000 values (s^2 / (2 allowed^2) exp(2 allowed threshold / s^2), s the
deviation of a value); a fall to half of it is found after some 550.
"""


class PageHinkley:
    """Sums how far values are below their mean so far; `alarms` counts how often it rose too far above its least.

    Page 1954 (Biometrika 41), one-sided. After an alarm mean and sum begin anew.
    """

    def __init__(self) -> None:
        self.alarms = 0
        self._count, self._mean, self._excess = 0, 0.0, 0.0

    def update(self, values: np.ndarray) -> None:
        """Take values in their order."""
        for value in values.tolist():
            self._count += 1
            self._mean += (value - self._mean) / self._count
            # The sum above its least so far, which is all that the test asks for.
            self._excess = max(0.0, self._excess + self._mean - value - ALLOWED)
            if self._excess > THRESHOLD:
                self.alarms += 1
                self._count, self._mean, self._excess = 0, 0.0, 0.0

    def state(self) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        return {"drift.state": np.array([self.alarms, self._count, self._mean, self._excess])}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        alarms, count, self._mean, self._excess = arrays["drift.state"].tolist()
        self.alarms, self._count = int(alarms), int(count)
