"""One number for the arrays of a file, which tells whether a chain of deltas has led to the right ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash


def state_digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """XXH3-128 over all arrays in the order of their names, as 32 hex digits.

    Of each: name, dtype and shape as text, each with a zero byte behind it, then its values, C order, little-endian.
    """
    digest = xxhash.xxh3_128()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        shape = ",".join(map(str, array.shape))
        digest.update(f"{name}\0{array.dtype.name}\0{shape}\0".encode())
        digest.update(array.data)
    return digest.hexdigest()
