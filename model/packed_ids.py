"""Ids as arrays of bytes: how they lie in snapshots."""

from collections.abc import Sequence

import numpy as np


def pack_ids(ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ids as (all their UTF-8 bytes in one uint8 array, int64 end of each).

    >>> unpack_ids(*pack_ids(["a", "", "é"]))
    ['a', '', 'é']
    """
    encoded = [item_id.encode("utf-8", "surrogatepass") for item_id in ids]
    ends = np.cumsum([len(value) for value in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8).copy(), ends


def unpack_ids(id_bytes: np.ndarray, id_ends: np.ndarray) -> list[str]:
    """The ids of `pack_ids`."""
    data, starts = id_bytes.tobytes(), [0, *id_ends.tolist()[:-1]]
    pairs = zip(starts, id_ends.tolist(), strict=False)
    return [data[start:end].decode("utf-8", "surrogatepass") for start, end in pairs]
