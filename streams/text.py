"""Lists of strings as two arrays, for files that hold arrays alone."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def pack_strings(name: str, strings: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """UTF-8 of all strings on end (`NAME_bytes`, uint8) and where each ends (`NAME_ends`, int64).

    >>> unpack_strings("id", pack_strings("id", ["a", "", "né"]))
    ['a', '', 'né']
    """
    encoded = [string.encode() for string in strings]
    ends = np.cumsum([len(part) for part in encoded], dtype=np.int64)
    return {f"{name}_bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}_ends": ends}


def unpack_strings(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Read back what `pack_strings` gave."""
    whole = arrays[f"{name}_bytes"].tobytes()
    ends = arrays[f"{name}_ends"].tolist()
    return [whole[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
