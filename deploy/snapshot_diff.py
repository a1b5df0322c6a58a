"""What differs between two versions: arrays, their rows, and the figures of both."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from storage.manifest import Manifest
from storage.snapshot_store import SnapshotStore


class ArrayDiff(msgspec.Struct, frozen=True, kw_only=True):
    """An array that is not the same in both versions."""

    name: str
    shape_a: list[int] | None
    """None where A has no such array."""
    shape_b: list[int] | None
    num_rows: int | None = None
    """Rows that both have and that differ; None where rows cannot be compared, being of another shape or type."""
    max_difference: float | None = None
    """The largest absolute difference in those; None too where it is not finite."""


class SnapshotDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that differs, of one file of two versions."""

    num_arrays: int
    """Arrays that there are in either."""
    arrays: list[ArrayDiff]
    tables: dict[str, dict[str, int]]
    """By embedding table: `rows_a`, `rows_b`, and the `differ`ing ones of those that both have."""
    metrics: dict[str, tuple[float | None, float | None]]
    """Figures of A and of B."""


def diff_snapshots(store: SnapshotStore, a: Manifest, b: Manifest, file: str) -> SnapshotDiff:
    """Compare one file of two versions; raises `SnapshotError` where it is absent or damaged."""
    arrays_a, arrays_b = store.load(a, file), store.load(b, file)
    found = diff_arrays(arrays_a, arrays_b)
    differing = {each.name: each.num_rows for each in found}
    weights = {table: f"{table}.weight" for table in sorted(a.tables.keys() | b.tables.keys())}
    tables = {
        table: {"rows_a": len(arrays_a[name]), "rows_b": len(arrays_b[name]), "differ": differing.get(name) or 0}
        for table, name in weights.items()
        if name in arrays_a and name in arrays_b
    }
    names = sorted(a.metrics.keys() | b.metrics.keys())
    metrics = {name: (a.metrics.get(name), b.metrics.get(name)) for name in names}
    return SnapshotDiff(num_arrays=len(arrays_a.keys() | arrays_b.keys()), arrays=found, tables=tables, metrics=metrics)


def diff_arrays(a: Mapping[str, npt.NDArray[Any]], b: Mapping[str, npt.NDArray[Any]]) -> list[ArrayDiff]:
    """The arrays that differ, by name; NaN is as good as NaN."""
    compared = [_diff_array(name, a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys())]
    return [each for each in compared if each is not None]


def _diff_array(name: str, a: npt.NDArray[Any] | None, b: npt.NDArray[Any] | None) -> ArrayDiff | None:
    shape_a, shape_b = (None if array is None else list(array.shape) for array in (a, b))
    if a is None or b is None or a.dtype != b.dtype or a.shape[1:] != b.shape[1:] or a.ndim != b.ndim:
        return ArrayDiff(name=name, shape_a=shape_a, shape_b=shape_b)
    # A scalar is one row; of two lengths the rows that both have are compared.
    rows_a, rows_b = np.atleast_1d(a), np.atleast_1d(b)
    both = min(len(rows_a), len(rows_b))
    rows_a, rows_b = rows_a[:both], rows_b[:both]
    differs = (rows_a != rows_b) & ~((rows_a != rows_a) & (rows_b != rows_b))
    if not differs.any() and a.shape == b.shape:
        return None
    # float64 for unsigned numbers, too: their difference would wrap around.
    gaps = np.abs(rows_a[differs].astype(np.float64) - rows_b[differs].astype(np.float64))
    largest = float(gaps.max(initial=0.0))
    return ArrayDiff(
        name=name,
        shape_a=shape_a,
        shape_b=shape_b,
        num_rows=int(differs.reshape(both, -1).any(1).sum()) if both else 0,
        max_difference=largest if np.isfinite(largest) else None,
    )
