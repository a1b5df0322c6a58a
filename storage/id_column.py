"""Ids by row as they lie in a snapshot: their UTF-8 bytes one after the other, and where each ends.

Shapes: B bytes, N rows, K some of these.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class IdColumn(NamedTuple):
    """The ids of a table: uint8 [B] and int64 [N]; an empty id stands for a row that is nobody's."""

    data: npt.NDArray[np.uint8]
    ends: Rows

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Self:
        """The ids in `NAME.id_bytes` and `NAME.id_ends`; raises `ValueError` where they are none."""
        missing = [part for part in (f"{name}.id_bytes", f"{name}.id_ends") if part not in arrays]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        data, ends = arrays[f"{name}.id_bytes"], arrays[f"{name}.id_ends"]
        if data.dtype != np.uint8 or data.ndim != 1 or ends.dtype != np.int64 or ends.ndim != 1:
            raise ValueError(
                f"{name}.id_bytes and {name}.id_ends must be uint8 [B] and int64 [N], "
                f"got {data.dtype} {list(data.shape)} and {ends.dtype} {list(ends.shape)}"
            )
        bounds = np.concatenate([np.zeros(1, np.int64), ends])
        if bounds[-1] != len(data) or (bounds[1:] < bounds[:-1]).any():
            raise ValueError(f"{name}.id_ends must rise from 0 to {len(data)}, the length of {name}.id_bytes")
        return cls(data, ends)

    @property
    def lengths(self) -> Rows:
        """Bytes of each id, [N]."""
        return np.diff(self.ends, prepend=np.int64(0))

    def take(self, rows: Rows) -> "IdColumn":
        """The ids of some rows, [K]."""
        lengths = self.lengths[rows]
        return IdColumn(self.data[_places(self.ends[rows], lengths)], np.cumsum(lengths))

    def differs(self, other: "IdColumn") -> npt.NDArray[np.bool_]:
        """Which rows have another id there, of the rows that both have."""
        count = min(len(self.ends), len(other.ends))
        differs: npt.NDArray[np.bool_] = self.lengths[:count] != other.lengths[:count]
        rows = np.flatnonzero(~differs)
        one, two = self.take(rows), other.take(rows)
        owners = np.repeat(rows, one.lengths)
        differs[owners[one.data != two.data]] = True
        return differs

    def changed(self, num_rows: int, evicted: Rows, rows: Rows, ids: "IdColumn") -> "IdColumn":
        """The ids of so many rows, of which some are nobody's any more and some have other ids now."""
        kept = np.ones(num_rows, np.bool_)
        kept[evicted] = kept[rows] = kept[len(self.ends) :] = False
        kept_rows = np.flatnonzero(kept)
        lengths = np.zeros(num_rows, np.int64)
        lengths[kept_rows], lengths[rows] = self.lengths[kept_rows], ids.lengths
        ends = np.cumsum(lengths)
        data = np.empty(int(lengths.sum()), np.uint8)
        data[_places(ends[kept_rows], lengths[kept_rows])] = self.take(kept_rows).data
        data[_places(ends[rows], lengths[rows])] = ids.data
        return IdColumn(data, ends)


def _places(ends: Rows, lengths: Rows) -> Rows:
    """Where the bytes of ids lie that end here and are so long, one id after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(ends - lengths - before, lengths) + np.arange(int(lengths.sum()))
