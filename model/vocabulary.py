"""Which row of the item table is whose: given when an id is admitted, taken back when it is stale, given again.

Row 0 is nobody's. Shapes: N events, Q targets, I rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model.admission import Admission
from model.eviction import Sightings
from model.layout import Integers
from model.packed_ids import pack_ids, unpack_ids
from model.slot_map import SlotMap


class Vocabulary:
    """Ids by row, and how often and when each was seen; at most `max_items` have a row at one time.

    All columns are reserved from the start: pages of rows that were never given take no memory.
    """

    def __init__(self, max_items: int, admission: Admission) -> None:
        self.max_items = max_items
        self._admission = admission
        self._rows = SlotMap(max_items)
        self._ids = [""]
        num_rows = max_items + 1
        self.live_I = np.zeros(num_rows, np.bool_)
        self._key_I, self._first_I = np.zeros(num_rows, np.int64), np.zeros(num_rows, np.int64)
        self._count_I, self._number_I = np.zeros(num_rows, np.float32), np.zeros(num_rows, np.int64)
        self._last_I = np.zeros(num_rows, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def num_rows(self) -> int:
        """Rows that are or were somebody's, row 0 among them."""
        return len(self._ids)

    def lookup(self, keys_N: Integers) -> Integers:
        """Rows of keys; 0 where an id has none."""
        return self._rows.lookup(keys_N)

    def before(self, numbers_Q: Integers, num_rows: int) -> npt.NDArray[np.bool_]:
        """Candidates: whether each of the first rows was somebody's strictly before each event, [Q, I]."""
        count = min(num_rows, self.num_rows)
        before_QI = np.zeros((len(numbers_Q), num_rows), np.bool_)
        before_QI[:, :count] = self.live_I[:count] & (self._first_I[:count] < numbers_Q[:, None])
        return before_QI

    def keys(self, rows_N: Integers) -> Integers:
        """Keys of rows; 0 for one that is nobody's, beyond the last one, too."""
        keys_N = np.zeros(len(rows_N), np.int64)
        is_there_N = rows_N < self.num_rows
        keys_N[is_there_N] = self._key_I[rows_N[is_there_N]]
        return keys_N

    def admit(
        self, keys_N: Integers, item_ids: Sequence[str], seconds_N: Integers, numbers_N: Integers
    ) -> tuple[Integers, Integers]:
        """See events, in their order: the row of each, 0 where its id has none, and the rows that were new.

        Where every row is taken, no id gets one. `numbers_N` are the events' numbers in the stream.
        """
        rows_N = self.lookup(keys_N)
        unknown = np.flatnonzero(rows_N == 0)
        is_admitted = self._admission.admit(keys_N[unknown], numbers_N[unknown])
        admitted, others = unknown[is_admitted], unknown[~is_admitted]
        rows_N[admitted], is_new = self._rows.lookup_or_insert(keys_N[admitted])
        first = admitted[is_new]
        self._give(rows_N[first], keys_N[first], [item_ids[event] for event in first.tolist()], numbers_N[first])
        # What comes after the event that an id was admitted with has the row, too.
        later = self.lookup(keys_N[others])
        rows_N[others] = np.where(numbers_N[others] > self._first_I[later], later, 0)
        self._see(rows_N, seconds_N, numbers_N)
        return rows_N, rows_N[first]

    def counts(self, rows_N: Integers, number: int) -> npt.NDArray[np.float32]:
        """How often the ids of rows were seen, of which half is left after as many events as there can be rows."""
        age_N = (number - self._number_I[rows_N]) / self.max_items
        counts: npt.NDArray[np.float32] = (self._count_I[rows_N] * np.exp2(-age_N)).astype(np.float32)
        return counts

    def sightings(self, seconds: int, number: int) -> Sightings:
        """What there is to judge rows by, at a moment of event time and after so many events of the stream."""
        rows_I = np.flatnonzero(self.live_I[: self.num_rows])
        return Sightings(
            rows_I, self.counts(rows_I, number), seconds - self._last_I[rows_I], number - self._first_I[rows_I]
        )

    def take_back(self, rows: Integers) -> None:
        """Leave nothing of the ids of some rows, and give these to others."""
        self._rows.delete(self._key_I[rows])
        for row in rows.tolist():
            self._ids[row] = ""
        for column in (self.live_I, *self._columns().values()):
            column[rows] = 0

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Copies of (ids by row, "" where a row is nobody's, and which rows are somebody's; what else `load` needs)."""
        count = self.num_rows
        id_bytes, id_ends = pack_ids(self._ids)
        ids = {"items.id_bytes": id_bytes, "items.id_ends": id_ends, "items.live": self.live_I[:count].astype(np.uint8)}
        own = {name: column[:count].copy() for name, column in self._columns().items()}
        return ids, own | self._admission.state() | {"items.free": self._rows.free()}

    def load(self, model: Mapping[str, np.ndarray], trainer: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`; raises `ValueError` where it has more rows than there can be."""
        ids = unpack_ids(model["items.id_bytes"], model["items.id_ends"])
        if len(ids) > self.max_items + 1:
            raise ValueError(f"max_items must be >= {len(ids) - 1}, as many as the snapshot has, got {self.max_items}")
        self._ids = ids
        self.live_I[: len(ids)] = model["items.live"] != 0
        for name, column in self._columns().items():
            column[: len(ids)] = trainer[name]
        self._admission.load(trainer)
        live = np.flatnonzero(self.live_I)
        self._rows.load(self._key_I[live], live, trainer["items.free"])

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "items.key": self._key_I,
            "items.first": self._first_I,
            "items.seen": self._count_I,
            "items.number": self._number_I,
            "items.last": self._last_I,
        }

    def _give(self, rows: Integers, keys: Integers, item_ids: Sequence[str], numbers: Integers) -> None:
        for row, item_id in zip(rows.tolist(), item_ids, strict=True):
            if row == len(self._ids):
                self._ids.append(item_id)
            else:
                self._ids[row] = item_id
        self._key_I[rows], self._first_I[rows], self.live_I[rows] = keys, numbers, True

    def _see(self, rows_N: Integers, seconds_N: Integers, numbers_N: Integers) -> None:
        """Count what events are about, all of them as at the last one's place."""
        number = int(numbers_N[-1])
        rows, seen = np.unique(rows_N[rows_N > 0], return_counts=True)
        self._count_I[rows] = self.counts(rows, number) + seen
        self._number_I[rows] = number
        np.maximum.at(self._last_I, rows_N, seconds_N)
        self._last_I[0] = 0
