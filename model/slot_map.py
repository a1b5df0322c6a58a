"""Keys to slots: which slot is whose, and which are free.

Shapes: N keys.
"""

import numpy as np
import numpy.typing as npt

from model.layout import Integers
from model.slot_kernels import Slots, claim_many, delete_many, find_many

_LOAD = 0.7
"""Share of the table's places that are taken when all slots are."""


class SlotMap:
    """Slots 1 to `capacity`, given to int64 keys in turn; a slot that was given back is the next to be given.

    Open addressing in compiled loops. All is reserved from the start; places that were never used take no memory.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        size = int(capacity / _LOAD) + 1
        self._keys, self._slots = np.zeros(size, np.int64), np.zeros(size, np.int32)
        self._free = np.zeros(0, np.int32)
        self._top = 0

    def __len__(self) -> int:
        return self._top - len(self._free)

    @property
    def num_bytes(self) -> int:
        """Memory of a full map."""
        return self._keys.nbytes + self._slots.nbytes

    def lookup(self, keys_N: Integers) -> Integers:
        """Slots of keys, 0 where one has none."""
        slots_N = np.empty(len(keys_N), np.int64)
        find_many(self._keys, self._slots, keys_N, slots_N)
        return slots_N

    def lookup_or_insert(self, keys_N: Integers) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Slots of keys, and which are new, each at its first place; 0 where all slots are taken."""
        given = np.arange(self._top + 1, 1 + min(self.capacity, self._top + len(keys_N)), dtype=np.int32)
        if len(self._free):
            given = np.concatenate([self._free[: -1 - len(keys_N) : -1], given])
        slots_N, is_new_N = np.empty(len(keys_N), np.int64), np.zeros(len(keys_N), np.bool_)
        num_new = claim_many(self._keys, self._slots, keys_N, given, slots_N, is_new_N)
        num_reused = min(num_new, len(self._free))
        self._free = self._free[: len(self._free) - num_reused]
        self._top += num_new - num_reused
        return slots_N, is_new_N

    def delete(self, keys_N: Integers) -> Integers:
        """The slots of distinct keys, which are free from now on; raises `KeyError` for a key that has none."""
        absent = keys_N[self.lookup(keys_N) == 0]
        if len(absent):
            raise KeyError(f"{len(absent)} keys have no slot, among them {absent[0]}")
        freed_N = np.empty(len(keys_N), np.int32)
        delete_many(self._keys, self._slots, keys_N, freed_N)
        self._free = np.concatenate([self._free, freed_N[::-1]])
        return freed_N.astype(np.int64)

    def free(self) -> Slots:
        """A copy of the slots that were given back, the next one last."""
        return self._free.copy()

    def load(self, keys_N: Integers, slots_N: Integers, free: Slots) -> None:
        """Fill an empty map with what one held."""
        slots, is_new = np.empty(len(keys_N), np.int64), np.zeros(len(keys_N), np.bool_)
        claim_many(self._keys, self._slots, keys_N, slots_N.astype(np.int32), slots, is_new)
        self._free, self._top = free.astype(np.int32), len(keys_N) + len(free)
