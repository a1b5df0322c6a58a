"""Arrays with a row for each item, which grow with the table."""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Scalar = TypeVar("_Scalar", bound=np.generic)


def with_room(rows: npt.NDArray[_Scalar], num_rows: int) -> npt.NDArray[_Scalar]:
    """The same array, or where it is too short a copy of twice the length or more, filled up with zeros.

    >>> with_room(np.array([3, 4]), 2), with_room(np.array([3, 4]), 3)
    (array([3, 4]), array([3, 4, 0, 0]))
    """
    if num_rows <= len(rows):
        return rows
    grown = np.zeros((max(num_rows, 2 * len(rows)), *rows.shape[1:]), rows.dtype)
    grown[: len(rows)] = rows
    return grown


def clear_rows(array: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> None:
    """Set rows to zero, those beyond the end left aside.

    >>> counts = np.array([3, 4])
    >>> clear_rows(counts, np.array([1, 9]))
    >>> counts
    array([3, 0])
    """
    array[rows[rows < len(array)]] = 0


def row_flags(rows: npt.NDArray[np.int64], num_rows: int) -> npt.NDArray[np.bool_]:
    """Which of so many rows are among these.

    >>> row_flags(np.array([2]), 4)
    array([False, False,  True, False])
    """
    flags = np.zeros(num_rows, np.bool_)
    flags[rows] = True
    return flags
