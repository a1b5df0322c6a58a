"""A made table of items beside other arrays, as a trainer would publish it, and drafts that declare it."""

import random
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.manifest import ManifestDraft, Table
from storage.snapshot_store import SnapshotStore

Array = npt.NDArray[Any]
Files = dict[str, dict[str, Array]]

COLUMNS = ("items.weight", "items.live", "memory.next", "items.sum", "items.odd", "items.short", "items.none")
TABLE = Table(rows=0, dim=3, dtype="float32", columns=COLUMNS)
STRANGE = np.array([np.nan, -0.0, 0.0, np.inf, 1.0], np.float32)
"""Values that are equal to others, or differ from themselves."""


def ids_as_arrays(ids: list[str]) -> dict[str, Array]:
    """Ids packed as a snapshot has them."""
    encoded = [each.encode() for each in ids]
    ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
    return {"items.id_bytes": np.frombuffer(b"".join(encoded), np.uint8), "items.id_ends": ends}


def draft(version: int, run_id: str = "run", **fields: Any) -> ManifestDraft:
    """A draft that declares the table's columns."""
    return ManifestDraft(run_id=run_id, version=version, tables={"items": TABLE}, **fields)


class MadeTable:
    """Rows that come, change, go and come back; nothing of it knows of deltas."""

    def __init__(self, seed: int = 0, num_rows: int = 0) -> None:
        self.random = random.Random(seed)
        self.ids: list[str] = [""]
        self.weight = [self._values()]
        self.next = [[-1, -1]]
        self.short = 0
        self.clock = 0
        for _ in range(num_rows):
            self.insert()

    def insert(self) -> None:
        """An id comes, into a new row."""
        self.ids.append(self._id())
        self.weight.append(self._values())
        self.next.append([self.random.randrange(9), -1])

    def update(self) -> None:
        """One value of a row changes."""
        row = self._row()
        self.weight[row][self.random.randrange(3)] = self._values()[0]

    def link(self) -> None:
        """Another column of a row changes."""
        self.next[self._row()][1] = self.random.randrange(5)

    def evict(self) -> None:
        """An id goes; one of its columns is cleared to what is not zero."""
        row = self._row()
        self.ids[row], self.weight[row], self.next[row] = "", [np.float32(0)] * 3, [-1, -1]

    def reuse(self) -> None:
        """An id goes and another comes into its row at once."""
        row = self._row()
        self.evict()
        self.ids[row], self.weight[row] = self._id(), self._values()

    def shrink(self) -> None:
        """The last row is gone."""
        if len(self.ids) > 1:
            for column in (self.ids, self.weight, self.next):
                column.pop()

    def lag(self) -> None:
        """One of the columns is not as long as the table."""
        self.short = 1 - self.short

    def touch_all(self) -> None:
        """All rows change."""
        self.weight = [self._values() for _ in self.ids]

    def files(self) -> Files:
        """New arrays of everything, as of now."""
        self.clock += 1
        count = len(self.ids)
        weight = np.array(self.weight, np.float32).reshape(count, 3)
        model: dict[str, Array] = {
            "items.weight": weight,
            "items.live": np.array([bool(each) for each in self.ids]),
            "memory.next": np.array(self.next, np.int32).reshape(count, 2),
            "items.none": np.zeros((count, 0), np.int16),
            "dense.scale": np.array([self.clock, np.nan]),
            # As long as the table, by chance, and no column of it.
            "dense.chance": np.full(count, self.clock % 3, np.int8),
            **ids_as_arrays(self.ids),
        }
        trainer: dict[str, Array] = {
            "items.sum": weight.sum(1, dtype=np.float64),
            "items.odd": np.asfortranarray(weight[:, :1].astype(np.float16).repeat(5, 1)),
            "items.short": np.arange(count - self.short, dtype=np.uint32),
            "learner.counters": np.array(self.clock),
        }
        if self.clock % 4 == 0:
            trainer["now.and_then"] = np.arange(self.clock)
        return {"model": model, "trainer": trainer}

    def _row(self) -> int:
        return self.random.randrange(len(self.ids))

    def _id(self) -> str:
        return self.random.choice(["a", "é", "item", "\0", "x" * 20]) + str(self.random.randrange(1_000))

    def _values(self) -> list[np.float32]:
        return [STRANGE[self.random.randrange(len(STRANGE))] for _ in range(3)]


def assert_same(loaded: dict[str, Array], wanted: dict[str, Array]) -> None:
    """The same arrays, bit for bit."""
    assert loaded.keys() == wanted.keys()
    for name, array in wanted.items():
        assert loaded[name].dtype == array.dtype, name
        assert loaded[name].shape == array.shape, name
        assert loaded[name].tobytes() == array.tobytes(), name


def assert_loads(store: SnapshotStore, version: int, wanted: Files, run_id: str = "run") -> None:
    """Whoever loads the version gets the arrays that were published."""
    manifest = store.manifest(run_id, version)
    for name, arrays in wanted.items():
        assert_same(store.load(manifest, name), arrays)
