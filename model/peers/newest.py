"""The newest numbers noted of each row, in arrays.

Shapes: R rows asked for, M numbers kept of each.
"""

import numpy as np

from model.growth import with_room
from model.layout import Integers


class Newest:
    """Of each row the last `kept` numbers, in no order.

    >>> newest = Newest(2)
    >>> for number in (7, 8, 9):
    ...     newest.add(1, number)
    >>> sorted(newest.rows(np.array([1]))[0].tolist()), newest.rows(np.array([0])).tolist()
    ([8, 9], [[-1, -1]])
    """

    def __init__(self, kept: int) -> None:
        self.num_rows = 0
        """One more than the highest row that was added to."""
        self._numbers_RM = np.full((256, kept), -1, np.int64)
        self._added_R = np.zeros(256, np.int64)

    def add(self, row: int, number: int) -> None:
        """Note a number of a row; the oldest gives way."""
        self._make_room(row + 1)
        self._numbers_RM[row, self._added_R[row] % self._numbers_RM.shape[1]] = number
        self._added_R[row] += 1
        self.num_rows = max(self.num_rows, row + 1)

    def rows(self, rows_R: Integers) -> Integers:
        """Numbers of these rows, -1 where there are fewer, [R, M]."""
        self._make_room(int(rows_R.max(initial=-1)) + 1)
        return self._numbers_RM[rows_R]

    def counts(self, num_rows: int) -> Integers:
        """How many each of the first rows holds."""
        self._make_room(num_rows)
        return np.minimum(self._added_R[:num_rows], self._numbers_RM.shape[1])

    def _make_room(self, num_rows: int) -> None:
        had = len(self._added_R)
        self._added_R = with_room(self._added_R, num_rows)
        self._numbers_RM = with_room(self._numbers_RM, num_rows)
        self._numbers_RM[had:] = -1
