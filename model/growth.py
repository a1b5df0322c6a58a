"""Arrays with a row for each item, which grow with the table."""

from typing import TypeVar

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
