"""How often each row is a target of a step: logQ's estimate, right for rows of any age.

Shapes: R rows that are asked for, I rows of the item table.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from model.growth import with_room
from model.layout import Integers

DECAY = 0.999
"""What a count keeps in a step; its horizon is 1,000 steps."""
YOUNG_STEPS = 100
"""A row is young for so many steps; its rate is as if it had been there for all of them."""


class Frequency:
    """Decayed number of times that each row was a target, with the steps of its last one and of its birth.

    A count is brought up to date where it is read: C <- C decay^(now - last) + n. Of a row that is `age` steps old it
    holds (1 - decay^age) / (1 - decay) steps' worth, and of the whole stream the same by the stream's age, so that a
    newborn row is not taken for a rare one. 12 bytes a row.
    """

    def __init__(self) -> None:
        self.step = 0
        """Steps counted so far."""
        self._total = 0.0
        self._num_rows = 0
        self._counts = np.zeros(1_024, np.float32)
        self._last = np.zeros(1_024, np.uint32)
        self._born = np.zeros(1_024, np.uint32)

    def update(self, rows: Integers, num_rows: int) -> None:
        """Count a step's targets; rows up to `num_rows` that were not there before are born in it."""
        self.step += 1
        self._grow(num_rows)
        distinct, counts = np.unique(rows, return_counts=True)
        self._counts[distinct] = self.counts(distinct) + counts
        self._last[distinct] = self.step
        self._total = self._total * DECAY + len(rows)

    def counts(self, rows: Integers) -> npt.NDArray[np.float64]:
        """Decayed counts as of now, [R]."""
        counts_R: npt.NDArray[np.float64] = self._counts[rows] * DECAY ** (
            self.step - self._last[rows].astype(np.int64)
        )
        return counts_R

    def shares(self, rows: Integers) -> npt.NDArray[np.float64]:
        """Estimated share of each row in the targets of a step, [R].

        A row that never was a target is taken as if it had been one now.
        """
        counts_R = self.counts(rows)
        rates_R = np.where(counts_R > 0, counts_R, 1) / _held(self._ages(rows))
        shares_R: npt.NDArray[np.float64] = rates_R * _held(np.array(self.step)) / max(self._total, 1)
        return shares_R

    def young(self, rows: Integers) -> npt.NDArray[np.bool_]:
        """Whether each row is at most 100 steps old, and at most a tenth as old as the stream, [R].

        In a stream that began just now, everything is new, and nothing is newer than the rest.
        """
        young_R: npt.NDArray[np.bool_] = self._ages(rows) <= min(YOUNG_STEPS, self.step // 10)
        return young_R

    def clear(self, rows: Integers) -> None:
        """Forget rows that belong to other items from now on: they are born in the next step."""
        self._counts[rows] = 0
        self._last[rows] = self._born[rows] = self.step + 1

    def state(self) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        return {
            "frequency.counts": self._counts[: self._num_rows].copy(),
            "frequency.last": self._last[: self._num_rows].copy(),
            "frequency.born": self._born[: self._num_rows].copy(),
            "frequency.total": np.array([self._total]),
            "frequency.step": np.array([self.step]),
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self._counts = arrays["frequency.counts"].copy()
        self._last, self._born = arrays["frequency.last"].copy(), arrays["frequency.born"].copy()
        self._num_rows = len(self._counts)
        self._total, self.step = float(arrays["frequency.total"][0]), int(arrays["frequency.step"][0])

    def _ages(self, rows: Integers) -> Integers:
        """Steps that each row has been there, its first one among them."""
        ages_R: Integers = self.step + 1 - self._born[rows].astype(np.int64)
        return ages_R

    def _grow(self, num_rows: int) -> None:
        self._counts, self._last, self._born = (
            with_room(self._counts, num_rows),
            with_room(self._last, num_rows),
            with_room(self._born, num_rows),
        )
        self._born[self._num_rows : num_rows] = self._last[self._num_rows : num_rows] = self.step
        self._num_rows = max(self._num_rows, num_rows)


def _held(ages: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Steps' worth that a count of such an age holds."""
    held: npt.NDArray[np.float64] = (1 - DECAY ** np.maximum(ages, YOUNG_STEPS)) / (1 - DECAY)
    return held
