"""How often keys were seen lately, counted in a sketch of fixed size.

Count-min with conservative update (Cormode & Muthukrishnan 2005; Estan & Varghese 2002): a key's count is never too
small, and seldom too large. Shapes: N keys, R hashes, W counters of each.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from model.layout import Integers
from model.slot_kernels import count_many

_HASHES = 4
_HALVE_AFTER = 4
"""Sightings a counter after which all counts are halved."""


class CountMin:
    """Counts up to 255 of keys, halved after every 4 W sightings."""

    def __init__(self, width: int) -> None:
        self._counts_RW = np.zeros((_HASHES, width), np.uint8)
        self._num_seen = 0

    def see(self, keys_N: Integers) -> npt.NDArray[np.uint8]:
        """Count keys, in their order; the count of each with this sighting."""
        counts_N = np.empty(len(keys_N), np.uint8)
        count_many(self._counts_RW, keys_N, counts_N)
        self._num_seen += len(keys_N)
        if self._num_seen >= _HALVE_AFTER * self._counts_RW.shape[1]:
            self._counts_RW >>= 1
            self._num_seen = 0
        return counts_N

    def state(self) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        return {"admission.counts": self._counts_RW.copy(), "admission.num_seen": np.array([self._num_seen])}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self._counts_RW = arrays["admission.counts"].copy()
        self._num_seen = int(arrays["admission.num_seen"][0])
