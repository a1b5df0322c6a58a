"""Compiled loops over int64 keys: an open-addressing table with linear probing and deletion by shifting back; a sketch.

A table is two arrays: keys, and slots, 0 where a place is empty, so that any key is allowed. A key's home is the upper
half of its splitmix64 hash, scaled to the table's length (Lemire 2019, fastrange); it lies there or behind, around the
end, with no empty place between. All hashing is in `uint64`: numba makes a float64 of one that meets an int64.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from model.layout import Integers

Slots = npt.NDArray[np.int32]
Function = TypeVar("Function", bound=Callable[..., Any])

_log = logging.getLogger(__name__)

_U = np.uint64
_GOLDEN, _MIX_1, _MIX_2 = _U(0x9E3779B97F4A7C15), _U(0xBF58476D1CE4E5B9), _U(0x94D049BB133111EB)
_11, _27, _30, _31, _32 = _U(11), _U(27), _U(30), _U(31), _U(32)


def _compiled(function: Function) -> Function:
    """As machine code, which is kept for the next process where a folder can be written."""
    try:
        made: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        _log.warning("each process compiles anew, as no folder for it can be written: set NUMBA_CACHE_DIR to one")
        made = numba.njit(nogil=True)(function)
    compiled_function: Function = made
    return compiled_function


@_compiled
def mixed(key: int | np.int64, seed: int) -> np.uint64:
    """64 bits that look drawn by chance, of the `seed`-th number after a key (splitmix64)."""
    bits = _U(key) + _GOLDEN * _U(seed)
    bits = (bits ^ (bits >> _30)) * _MIX_1
    bits = (bits ^ (bits >> _27)) * _MIX_2
    return bits ^ (bits >> _31)


@_compiled
def _home(key: int | np.int64, seed: int, size: int) -> Any:
    return np.int64(((mixed(key, seed) >> _32) * _U(size)) >> _32)


@_compiled
def _place(table_keys: Integers, table_slots: Slots, key: int | np.int64) -> int:
    """Where a key is, or the empty place where it would be."""
    size = len(table_slots)
    place: int = _home(key, 1, size)
    while table_slots[place] != 0 and table_keys[place] != key:
        place = place + 1 if place + 1 < size else 0
    return place


@_compiled
def find_many(table_keys: Integers, table_slots: Slots, keys: Integers, found: Integers) -> None:
    """Slots of keys, 0 where one is absent."""
    for index in range(len(keys)):
        found[index] = table_slots[_place(table_keys, table_slots, keys[index])]


@_compiled
def claim_many(
    table_keys: Integers,
    table_slots: Slots,
    keys: Integers,
    given: Slots,
    found: Integers,
    is_new: npt.NDArray[np.bool_],
) -> int:
    """Slots of keys, where an absent one takes the next of `given`, or 0 where none is left; how many were taken."""
    taken = 0
    for index in range(len(keys)):
        place = _place(table_keys, table_slots, keys[index])
        if table_slots[place] == 0 and taken < len(given):
            table_keys[place], table_slots[place] = keys[index], given[taken]
            is_new[index] = True
            taken += 1
        found[index] = table_slots[place]
    return taken


@_compiled
def delete_many(table_keys: Integers, table_slots: Slots, keys: Integers, freed: Slots) -> None:
    """Take keys out, and what lies behind them back; the slots that they had, 0 where one was absent."""
    size = len(table_slots)
    for index in range(len(keys)):
        hole = _place(table_keys, table_slots, keys[index])
        freed[index] = table_slots[hole]
        place = hole
        while table_slots[hole] != 0:
            place = place + 1 if place + 1 < size else 0
            if table_slots[place] == 0:
                table_slots[hole] = 0
            else:
                # A key may move into the hole unless its home lies behind the hole, on the way to where it is.
                home = _home(table_keys[place], 1, size)
                if (place - home) % size >= (place - hole) % size:
                    table_keys[hole], table_slots[hole] = table_keys[place], table_slots[place]
                    hole = place


@_compiled
def count_many(counts_RW: npt.NDArray[np.uint8], keys: Integers, seen: npt.NDArray[np.uint8]) -> None:
    """Add one to the smallest of each key's counters, unless they are full; what it is then."""
    for index in range(len(keys)):
        least = 255
        for row in range(counts_RW.shape[0]):
            least = min(least, counts_RW[row, _home(keys[index], row + 2, counts_RW.shape[1])])
        count = min(least + 1, 255)
        for row in range(counts_RW.shape[0]):
            place = _home(keys[index], row + 2, counts_RW.shape[1])
            counts_RW[row, place] = max(counts_RW[row, place], count)
        seen[index] = count


@_compiled
def draw_many(keys: Integers, numbers: Integers, seed: int, drawn: npt.NDArray[np.float64]) -> None:
    """A number in [0, 1) for each key at each place of the stream, the same whenever it is drawn."""
    for index in range(len(keys)):
        bits = mixed(np.int64(mixed(keys[index], seed)), numbers[index])
        drawn[index] = np.float64(bits >> _11) / 9007199254740992.0
