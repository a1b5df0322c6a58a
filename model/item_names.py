"""Which row is whose in one version: ids by row, their keys, and rows by id.

Shapes: I rows of the item table, B bytes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model.item_keys import item_keys
from model.layout import Integers
from model.packed_ids import PackedIds, differing_rows, take_ids, unpack_ids


class ItemNames(NamedTuple):
    """The ids of a table; never changed once made, so that threads may share them."""

    packed: PackedIds
    live_I: npt.NDArray[np.bool_]
    ids: list[str]
    """By row; of a row that is not live it says nothing."""
    keys_I: Integers
    rows: dict[str, int]
    """Of those that are live."""

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], former: "ItemNames | None" = None) -> "ItemNames":
        """The names in `items.id_bytes`, `items.id_ends` and `items.live`.

        Of `former` ones, which stay as they are, only what differs is read: that leaves the threads that answer in
        peace. Raises `ValueError` where ids and rows are not equally many.
        """
        former = former or _NOBODY
        packed, live_I = (arrays["items.id_bytes"], arrays["items.id_ends"]), arrays["items.live"].astype(np.bool_)
        num_rows = len(packed[1])
        if live_I.shape != (num_rows,):
            raise ValueError(f"items.live must have shape {(num_rows,)}, as many as there are ids, got {live_I.shape}")
        had = min(num_rows, len(former.ids))
        differs_I = np.ones(num_rows, np.bool_)
        differs_I[:had] = differing_rows(former.packed, packed) | (former.live_I[:had] != live_I[:had])
        ids, rows = former.ids[:had] + [""] * (num_rows - had), former.rows.copy()
        keys_I = np.concatenate([former.keys_I[:had], np.zeros(num_rows - had, np.int64)])
        gone_I = former.live_I.copy()
        gone_I[:had] &= differs_I[:had]
        for row in np.flatnonzero(gone_I).tolist():
            rows.pop(former.ids[row], None)
        changed = np.flatnonzero(differs_I)
        changed_ids = unpack_ids(*take_ids(packed, changed))
        keys_I[changed] = item_keys(changed_ids)
        for row, item_id, is_live in zip(changed.tolist(), changed_ids, live_I[changed].tolist(), strict=True):
            ids[row] = item_id
            if is_live:
                rows[item_id] = row
        return cls(packed, live_I, ids, keys_I, rows)


_NOBODY = ItemNames(
    (np.zeros(0, np.uint8), np.zeros(0, np.int64)), np.zeros(0, np.bool_), [], np.zeros(0, np.int64), {}
)
