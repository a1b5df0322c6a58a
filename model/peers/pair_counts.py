"""A count for each ordered pair of items, which grows with them.

Shapes: I items, R rows.
"""

import numpy as np
import numpy.typing as npt

from model.layout import Integers


class PairCounts:
    """A square of float32 that doubles: 4 B for each pair, 256 MiB for 8,192 items."""

    def __init__(self) -> None:
        self._counts_II = np.zeros((256, 256), np.float32)

    def rows(self, items_R: Integers, num_items: int) -> npt.NDArray[np.float32]:
        """Counts [R, I] of pairs that begin with these items; a copy."""
        self._make_room(num_items)
        return self._counts_II[items_R, :num_items]

    def add(self, first: Integers | int, second: Integers | int, amount: npt.NDArray[np.float32] | float) -> None:
        """Add to pairs, none of which may come twice."""
        self._make_room(int(max(np.max(first), np.max(second))) + 1)
        self._counts_II[first, second] += amount

    def _make_room(self, num_items: int) -> None:
        had = len(self._counts_II)
        if num_items > had:
            size = max(num_items, 2 * had)
            grown_II = np.zeros((size, size), np.float32)
            grown_II[:had, :had] = self._counts_II
            self._counts_II = grown_II
