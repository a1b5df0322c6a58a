"""Ids as arrays of bytes: how they lie in snapshots.

Shapes: N ids, K some of these.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.layout import Integers

PackedIds = tuple[np.ndarray, np.ndarray]
"""All UTF-8 bytes in one uint8 array, and where each id ends, int64 [N]."""


def pack_ids(ids: Sequence[str]) -> PackedIds:
    """Ids as (all their UTF-8 bytes in one uint8 array, int64 end of each).

    >>> unpack_ids(*pack_ids(["a", "", "é"]))
    ['a', '', 'é']
    """
    text = "".join(ids)
    # Of ASCII a letter is a byte, so that nothing is made for each id: a learner waits for this at every version.
    lengths = map(len, ids) if text.isascii() else (len(item_id.encode("utf-8", "surrogatepass")) for item_id in ids)
    ends = np.cumsum(np.fromiter(lengths, np.int64, len(ids)))
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8).copy(), ends


def unpack_ids(id_bytes: np.ndarray, id_ends: np.ndarray) -> list[str]:
    """The ids of `pack_ids`."""
    data, starts = id_bytes.tobytes(), [0, *id_ends.tolist()[:-1]]
    pairs = zip(starts, id_ends.tolist(), strict=False)
    return [data[start:end].decode("utf-8", "surrogatepass") for start, end in pairs]


def take_ids(packed: PackedIds, rows_K: Integers) -> PackedIds:
    """Some of the ids."""
    id_bytes, id_ends = packed
    lengths_K = np.diff(id_ends, prepend=np.int64(0))[rows_K]
    ends_K = np.cumsum(lengths_K)
    places = np.repeat(id_ends[rows_K] - ends_K, lengths_K) + np.arange(int(lengths_K.sum()))
    return id_bytes[places], ends_K


def differing_rows(before: PackedIds, now: PackedIds) -> npt.NDArray[np.bool_]:
    """Which rows have another id now, of the rows that there are in both.

    >>> differing_rows(pack_ids(["", "a", "bc"]), pack_ids(["", "b", "bc", "d"])).tolist()
    [False, True, False]
    """
    count = min(len(before[1]), len(now[1]))
    lengths_before, lengths_now = (np.diff(ends, prepend=np.int64(0))[:count] for _, ends in (before, now))
    differs: npt.NDArray[np.bool_] = lengths_before != lengths_now
    rows = np.flatnonzero(~differs)
    (one, ends), (two, _) = take_ids(before, rows), take_ids(now, rows)
    owners = np.repeat(rows, np.diff(ends, prepend=np.int64(0)))
    differs[owners[one != two]] = True
    return differs
