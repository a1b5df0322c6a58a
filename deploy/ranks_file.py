"""Ranks of a prequential run as Parquet, so that two runs on one stream can be compared event by event."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from model.evaluation import EventRank
from model.layout import Integers
from model.metrics import Floats
from storage.errors import SetupError

_COUNT_FROM = b"count_from"
_COLUMNS = {"event": pa.int64(), "user_id": pa.string(), "item_id": pa.string(), "rank": pa.float64()}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RanksFile:
    """Columns of one length, in the order of the stream."""

    path: Path
    events: Integers
    user_ids: list[str]
    item_ids: list[str]
    ranks: Floats
    count_from: int
    """Events with a smaller number were learned and not counted."""

    def counted(self) -> npt.NDArray[np.bool_]:
        """Which ranks are in the main series: after the warm-up, and the first of their user and item."""
        pairs = list(zip(self.user_ids, self.item_ids, strict=True))
        first = {pair: place for place, pair in reversed(list(enumerate(pairs)))}
        is_first = np.array([first[pair] == place for place, pair in enumerate(pairs)], np.bool_)
        counted: npt.NDArray[np.bool_] = is_first & (self.events >= self.count_from)
        return counted


def write_ranks(path: Path, ranks: list[EventRank], count_from: int) -> None:
    """Write `event, user_id, item_id, rank` as Parquet, `count_from` in its metadata.

    Rank is inf for no candidate and NaN for no finite score.
    """
    columns = {name: pa.array([getattr(rank, name) for rank in ranks], kind) for name, kind in _COLUMNS.items()}
    table = pa.table(columns).replace_schema_metadata({_COUNT_FROM: str(count_from)})
    pyarrow.parquet.write_table(table, path)


def read_ranks(path: Path) -> RanksFile:
    """Read what `write_ranks` wrote; raises `SetupError` for any other file."""
    try:
        table = pyarrow.parquet.read_table(path)
        count_from = int((table.schema.metadata or {})[_COUNT_FROM])
        columns = {name: table.column(name).cast(kind) for name, kind in _COLUMNS.items()}
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise SetupError(
            f"cannot read ranks from {path}: {error}; write them with evaluate prequential --ranks"
        ) from error
    return RanksFile(
        path=path,
        events=columns["event"].to_numpy(),
        user_ids=columns["user_id"].to_pylist(),
        item_ids=columns["item_id"].to_pylist(),
        ranks=columns["rank"].to_numpy(),
        count_from=count_from,
    )
