"""Columns from Parquet and CSV files, with errors that say what is wrong with which file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from storage.errors import SetupError

Column: TypeAlias = "pa.ChunkedArray[Any]"
"""One column of a file."""


def read_table(path: Path, texts: Iterable[str] = ()) -> pa.Table:
    """Read a Parquet or CSV file whole; raises `SetupError` where that fails.

    `texts` are columns of a CSV file that are taken as they stand: an id 007 is not the number 7.
    """
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        options = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in texts})
        return pyarrow.csv.read_csv(path, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise SetupError(
            f"cannot read {path} as {'Parquet' if path.suffix == '.parquet' else 'CSV'}: {reason}"
        ) from error


def pick_columns(
    table: pa.Table, path: Path, wanted: Mapping[str, str], required: tuple[str, ...]
) -> dict[str, Column]:
    """Columns by our names; `wanted` maps them to the file's; raises `SetupError` where a required one is missing."""
    missing = [name for name in required if wanted[name] not in table.column_names]
    if missing:
        raise SetupError(
            f"{path} lacks the column(s) {', '.join(wanted[name] for name in missing)}; "
            f"it has {', '.join(table.column_names)}; map them with --columns {missing[0]}=YOUR_NAME"
        )
    return {name: table.column(source) for name, source in wanted.items() if source in table.column_names}


def as_strings(column: Column, path: Path, name: str) -> list[str]:
    """A column of ids as strings."""
    ids = ["" if value is None else str(value) for value in column.to_pylist()]
    if "" in ids:
        raise SetupError(f"{path}: {name} must not be null or empty, got {ids.count('')} such row(s)")
    return ids


def as_integers(column: Column, path: Path, name: str) -> npt.NDArray[np.int64]:
    """A column of times as int64; timestamps are cut to milliseconds."""
    if column.null_count:
        raise SetupError(f"{path}: {name} must not be null, got {column.null_count} null row(s)")
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms"), safe=False)
    try:
        return np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
    except (pa.ArrowException, ValueError) as error:
        raise SetupError(f"{path}: {name} must hold integers (milliseconds since 1970), got {column.type}") from error


def as_floats(column: Column, path: Path, name: str) -> npt.NDArray[np.float32]:
    """A column of numbers as float32."""
    try:
        return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float32)
    except (pa.ArrowException, ValueError) as error:
        raise SetupError(f"{path}: {name} must hold numbers, got {column.type}") from error


def split_categories(categories: object) -> tuple[str, ...]:
    """Categories of an item from a list or from text with "|" between them."""
    if isinstance(categories, list | tuple):
        return tuple(str(category) for category in categories)
    return tuple(part for part in str(categories or "").split("|") if part)
