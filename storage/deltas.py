"""What a version changes of another one: rows of its tables, and whole what has none.

Shapes: N rows of a table, K of which changed.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from storage.id_column import IdColumn, Rows
from storage.manifest import Table

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Files = Mapping[str, Arrays]

RESERVED = ("num_rows", "evicted", "rows", "renamed")
"""What a delta calls its own arrays, behind the name of the table."""


def check_names(files: Files, tables: Iterable[str]) -> None:
    """Raise `ValueError` where an array has a name that a delta gives to its own."""
    own = [f"{table}.{word}" for table in tables for word in RESERVED]
    for name in (name for arrays in files.values() for name in arrays):
        if any(name == each or name.startswith(f"{each}.") for each in own):
            raise ValueError(f"array {name!r} must have another name: deltas have arrays of their own called so")


def make_deltas(base: Files, after: Files, tables: Mapping[str, Table]) -> dict[str, dict[str, Array]]:
    """What is to be written, for each file, so that `apply_delta` makes the arrays `after` of those of `base`.

    A column goes by row where it is as long as its table in both, and of one dtype and width, unless more than half of
    its rows changed: it is shorter whole then. Raises `ValueError` for ids that are none.
    """
    deltas = {name: dict(arrays) for name, arrays in after.items()}
    for name, table in tables.items():
        holder = _holder(after, name)
        if holder is not None and holder == _holder(base, name):
            change = _TableChange(
                name, table.columns, IdColumn.of(base[holder], name), IdColumn.of(after[holder], name)
            )
            for file, delta in deltas.items():
                change.shorten(delta, base[file])
            change.shorten_ids(deltas[holder])
    return deltas


def apply_delta(base: Arrays, delta: Arrays, tables: Iterable[str]) -> dict[str, Array]:
    """The arrays of a file after a delta; those of `base` stay as they are.

    1. Evicted rows become zeros, and nobody's. 2. Changed rows and ids take their new values. 3. Whole arrays are
    taken over; what is neither there nor told by row is gone. Raises `ValueError` where the delta does not fit.
    """
    after = dict(delta)
    for table in tables:
        if f"{table}.num_rows" in after:
            _merge_table(after, base, table)
    return after


class _TableChange(NamedTuple):
    table: str
    columns: tuple[str, ...]
    before: IdColumn
    now: IdColumn

    def shorten(self, delta: dict[str, Array], base: Arrays) -> None:
        """Tell by row what a file has of the table."""
        num_rows, evicted = len(self.now.ends), self._evicted()
        changed = {
            column: _changed_rows(base[column], delta[column], evicted)
            for column in self.columns
            if column in base and column in delta and self._goes_by_row(base[column], delta[column])
        }
        by_row = {column: mask for column, mask in changed.items() if 2 * np.count_nonzero(mask) <= num_rows}
        mask = np.zeros(num_rows, np.bool_)
        mask[len(self.before.ends) :] = True
        for each in by_row.values():
            mask |= each
        rows = np.flatnonzero(mask)
        for column in by_row:
            delta[f"{self.table}.rows.{column}"] = delta.pop(column)[rows]
        delta |= {f"{self.table}.num_rows": np.array(num_rows, np.int64), f"{self.table}.evicted": evicted}
        delta[f"{self.table}.rows"] = rows

    def shorten_ids(self, delta: dict[str, Array]) -> None:
        """Tell by row the ids, in the file that has them."""
        del delta[f"{self.table}.id_bytes"], delta[f"{self.table}.id_ends"]
        differs = np.ones(len(self.now.ends), np.bool_)
        differs[: len(self.before.ends)] = self.before.differs(self.now)
        differs[self._evicted()] = False
        renamed = np.flatnonzero(differs)
        data, ends = self.now.take(renamed)
        delta[f"{self.table}.renamed"] = renamed
        delta |= {f"{self.table}.renamed.id_bytes": data, f"{self.table}.renamed.id_ends": ends}

    def _evicted(self) -> Rows:
        count = min(len(self.before.ends), len(self.now.ends))
        return np.flatnonzero((self.before.lengths[:count] > 0) & (self.now.lengths[:count] == 0))

    def _goes_by_row(self, before: Array, now: Array) -> bool:
        if before.ndim == 0 or now.ndim == 0 or before.dtype != now.dtype or before.shape[1:] != now.shape[1:]:
            return False
        return len(before) == len(self.before.ends) and len(now) == len(self.now.ends)


def _holder(files: Files, table: str) -> str | None:
    """The file that has the ids of a table; None where none has, or several have."""
    holders = [name for name, arrays in files.items() if f"{table}.id_ends" in arrays]
    return holders[0] if len(holders) == 1 else None


def _changed_rows(before: Array, now: Array, evicted: Rows) -> npt.NDArray[np.bool_]:
    """Which rows an array has otherwise than `before`, once evicted rows are zeros there, bit for bit, [N]."""
    old, new = _units(before), _units(now)
    count = min(len(old), len(new))
    changed = np.ones(len(new), np.bool_)
    changed[:count] = (old[:count] != new[:count]).any(1)
    changed[evicted] = new[evicted].any(1)
    return changed


def _units(rows: Array) -> Array:
    """The bytes of each row, in numbers as wide as they can be: as floats, a NaN would differ from itself."""
    width = math.prod(rows.shape[1:])
    flat = np.asarray(rows, order="C").reshape(len(rows), width)
    return flat.view(f"u{math.gcd(width * rows.itemsize, 8)}")


def _merge_table(after: dict[str, Array], base: Arrays, table: str) -> None:
    num_rows = _number(after.pop(f"{table}.num_rows"), f"{table}.num_rows")
    evicted = _pop_rows(after, f"{table}.evicted", num_rows)
    rows = _pop_rows(after, f"{table}.rows", num_rows)
    told = f"{table}.rows."
    for name in [name for name in after if name.startswith(told)]:
        column = name.removeprefix(told)
        if column in after:
            raise ValueError(f"{column} must be whole or by row, got both")
        if column not in base:
            raise ValueError(f"{name} must change an array of the base, which has no {column}")
        values = after.pop(name)
        _check_column(base[column], values, rows, name)
        _check_new_rows(rows, len(base[column]), num_rows, f"{table}.rows")
        after[column] = _changed_column(base[column], values, rows, evicted, num_rows)
    if f"{table}.renamed" in after:
        _merge_ids(after, base, table, evicted, num_rows)


def _merge_ids(after: dict[str, Array], base: Arrays, table: str, evicted: Rows, num_rows: int) -> None:
    renamed = _pop_rows(after, f"{table}.renamed", num_rows)
    ids = IdColumn.of(after, f"{table}.renamed")
    if len(ids.ends) != len(renamed):
        raise ValueError(f"{table}.renamed.id_ends must have {len(renamed)} rows, got {len(ids.ends)}")
    former = IdColumn.of(base, table)
    _check_new_rows(renamed, len(former.ends), num_rows, f"{table}.renamed")
    del after[f"{table}.renamed.id_bytes"], after[f"{table}.renamed.id_ends"]
    data, ends = former.changed(num_rows, evicted, renamed, ids)
    after |= {f"{table}.id_bytes": data, f"{table}.id_ends": ends}


def _check_column(before: Array, values: Array, rows: Rows, name: str) -> None:
    wanted = [len(rows), *before.shape[1:]]
    if before.ndim == 0 or values.dtype != before.dtype or list(values.shape) != wanted:
        raise ValueError(
            f"{name} must be {before.dtype} {wanted}, for rows of {list(before.shape)}, "
            f"got {values.dtype} {list(values.shape)}"
        )


def _changed_column(before: Array, values: Array, rows: Rows, evicted: Rows, num_rows: int) -> Array:
    if len(before) >= num_rows:
        column = before[:num_rows].copy()
    else:
        room = np.zeros((num_rows - len(before), *before.shape[1:]), before.dtype)
        column = np.concatenate([before, room])
    column[evicted] = 0
    column[rows] = values
    return column


def _number(array: Array, name: str) -> int:
    if array.dtype != np.int64 or array.ndim != 0 or array < 0:
        raise ValueError(f"{name} must be one int64 >= 0, got {array.dtype} {array.tolist()!r:.50}")
    return int(array)


def _pop_rows(after: dict[str, Array], name: str, num_rows: int) -> Rows:
    rows = after.pop(name, None)
    if rows is None:
        raise ValueError(f"{name} is missing")
    if rows.dtype != np.int64 or rows.ndim != 1:
        raise ValueError(f"{name} must be int64 [K], got {rows.dtype} {list(rows.shape)}")
    if (rows[1:] <= rows[:-1]).any():
        raise ValueError(f"{name} must be ascending and distinct")
    if len(rows) and (rows[0] < 0 or rows[-1] >= num_rows):
        raise ValueError(f"{name} must be 0 to {num_rows - 1}, got {rows[0]} to {rows[-1]}")
    return rows


def _check_new_rows(rows: Rows, had: int, num_rows: int, name: str) -> None:
    # So the room that is made for a table is never more than what a file says of its rows.
    found = np.count_nonzero(rows >= had)
    if found != max(num_rows - had, 0):
        raise ValueError(f"{name} must name every new row from {had} to {num_rows - 1}, got {found} of them")
