"""Data sets by name or path.

Four sources, one shape: `ml-100k` (fetched once through pip), the sets under the setting `data`, the simulator, and any
Parquet or CSV file with `user_id, item_id, ts_ms` and optionally `action, value`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.changes import Feature
from storage.errors import SetupError
from streams.dataset import Dataset
from streams.items import Item
from streams.kuairand import kuairand
from streams.movielens import fetch_movielens_100k, movielens_1m, movielens_100k
from streams.simulator import Simulator
from streams.simulator_settings import SIMULATOR, read_settings
from streams.tables import as_floats, as_integers, as_strings, pick_columns, read_table, split_categories

REQUIRED = ("user_id", "item_id", "ts_ms")
"""Columns that a file of interactions must have."""
OPTIONAL = ("action", "value")
"""Columns that a file of interactions may have."""
MAX_ACTIONS = 62
"""Most kinds of action in a file: they are bits of one integer."""
_FEATURES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_null,
)
NAMED: dict[str, Callable[[Path], Dataset]] = {"ml-1m": movielens_1m, "kuairand-pure": kuairand}
"""Sets that are read from a folder of their name under the setting `data`."""


def load_dataset(
    name: str,
    *,
    cache: Path,
    folder: Path | None = None,
    columns: Mapping[str, str] | None = None,
    items: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Load a set by name, or a file by path.

    `simulator` is the simulator's stream by defaults, `simulator:seed=3,drifts=4` one by other `SimulatorSettings`.
    `cache` keeps what is fetched; `folder` holds named sets (setting `data`); `columns` maps our column names to the
    file's; `items` is a file of titles. Raises `SetupError` for what is missing, `ValueError` for wrong settings.
    """
    kind, _, settings = name.partition(":")
    if kind == SIMULATOR:
        return Simulator(read_settings(settings)).dataset()
    if name == "ml-100k":
        return movielens_100k(fetch_movielens_100k(cache, say))
    if folder is not None and name in NAMED and (folder / name).is_dir():
        return NAMED[name](folder / name)
    path = Path(name)
    if not path.is_file():
        where = f"a folder {name} under the setting data ({folder})" if folder else "the setting data (HEADWATER_DATA)"
        known = f"ml-100k, {SIMULATOR}, and with {where}: {', '.join(NAMED)}"
        raise SetupError(f"data set {name!r} is no file and no known set; known: {known}")
    return read_interactions(path, columns or {}, items)


def read_interactions(path: Path, columns: Mapping[str, str], items: Path | None = None) -> Dataset:
    """Read a Parquet or CSV file of interactions; without an action column every row is a click."""
    unknown = set(columns) - {*REQUIRED, *OPTIONAL}
    if unknown:
        raise ValueError(f"columns may map {', '.join(REQUIRED + OPTIONAL)}, got {', '.join(sorted(unknown))}")
    names = {name: columns.get(name, name) for name in (*REQUIRED, *OPTIONAL)}
    table = read_table(path, [names[name] for name in ("user_id", "item_id", "action")])
    if not table.num_rows:
        raise SetupError(f"{path} has no rows")
    # Of the optional columns, those that were asked for by name must be there.
    picked = pick_columns(table, path, names, tuple(name for name in names if name in REQUIRED or name in columns))
    action = picked.get("action")
    kinds = pa.array(["click"] * table.num_rows) if action is None else action.cast(pa.string())
    actions = tuple(sorted({str(kind) for kind in pc.unique(kinds).to_pylist() if kind}))
    if not 1 <= len(actions) <= MAX_ACTIONS:
        raise SetupError(f"{path}: 1 to {MAX_ACTIONS} kinds of action, got {len(actions)}: is this the right column?")
    bits = {name: 1 << place for place, name in enumerate(actions)}
    masks = np.array([bits[kind] if kind else 0 for kind in kinds.to_pylist()], dtype=np.int64)
    values = picked.get("value")
    return Dataset.in_time_order(
        name=path.name,
        user_ids=as_strings(picked["user_id"], path, "user_id"),
        item_ids=as_strings(picked["item_id"], path, "item_id"),
        ts_ms=as_integers(picked["ts_ms"], path, "ts_ms"),
        actions=masks,
        values=np.full(len(masks), np.nan, np.float32) if values is None else as_floats(values, path, "value"),
        action_names=actions,
        items=read_items(items) if items else {},
    )


def read_users(path: Path) -> dict[str, dict[str, Feature]]:
    """Read what is known of users from a Parquet or CSV file with `user_id` and a column for each feature.

    Where a cell is empty, the user has no such feature. Raises `SetupError` for columns that hold anything but text,
    numbers and truth values.
    """
    table = read_table(path, ("user_id",))
    unfit = [f"{each.name} ({each.type})" for each in table.schema if not any(fits(each.type) for fits in _FEATURES)]
    if unfit:
        raise SetupError(f"{path}: features must be text, numbers or truth values, got {', '.join(unfit)}")
    ids = as_strings(pick_columns(table, path, {"user_id": "user_id"}, ("user_id",))["user_id"], path, "user_id")
    rows = table.drop_columns(["user_id"]).to_pylist()
    return {
        user_id: {name: value for name, value in row.items() if value is not None}
        for user_id, row in zip(ids, rows, strict=True)
    }


def read_items(path: Path) -> dict[str, Item]:
    """Read titles from a Parquet or CSV file with `item_id, title` and optionally `categories` (separated by '|')."""
    table = read_table(path, ("item_id", "title", "categories"))
    picked = pick_columns(
        table, path, {name: name for name in ("item_id", "title", "categories")}, ("item_id", "title")
    )
    ids = as_strings(picked["item_id"], path, "item_id")
    titles = [str(title or "") for title in picked["title"].to_pylist()]
    groups = picked["categories"].to_pylist() if "categories" in picked else [""] * len(ids)
    return {
        item_id: Item(item_id=item_id, title=title, categories=split_categories(group))
        for item_id, title, group in zip(ids, titles, groups, strict=True)
    }
