"""KuaiRand-Pure as a stream: exposures of short videos with eight kinds of feedback."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from streams.dataset import Dataset
from streams.items import Item
from streams.tables import read_table

KUAIRAND_ACTIONS = ("click", "long_view", "like", "follow", "comment", "forward", "hate", "profile_enter")
"""Feedback flags, in the order of their bits."""


def kuairand(folder: Path) -> Dataset:
    """The exposures of KuaiRand-Pure's standard log, copies removed; an action's value is the seconds of play."""
    table = read_table(folder / "events.parquet")
    rows = _without_copies(table)
    masks = np.zeros(rows.num_rows, np.int64)
    seconds = rows.column("play_time_ms").to_numpy().astype(np.float32) / 1_000
    for place, action in enumerate(KUAIRAND_ACTIONS):
        name = f"is_{action}" if f"is_{action}" in rows.column_names else action
        masks |= np.asarray(rows.column(name).to_numpy(), dtype=np.int64).clip(0, 1) << place
    return Dataset.in_time_order(
        name="kuairand-pure",
        user_ids=[str(user) for user in rows.column("user_id").to_pylist()],
        item_ids=[str(item) for item in rows.column("item_id").to_pylist()],
        ts_ms=np.asarray(rows.column("timestamp_ms").to_numpy(), dtype=np.int64),
        actions=masks,
        values=np.where(masks != 0, seconds, np.float32(np.nan)),
        action_names=KUAIRAND_ACTIONS,
        items=_items(folder),
    )


def _items(folder: Path) -> dict[str, Item]:
    """Each video by who made it, what it is tagged with and how it came; what was counted of it is left aside.

    Those counts are over the whole month: they know the future.
    """
    videos = read_table(folder / "items.parquet").select(["item_id", "author_id", "tag", "upload_type"]).to_pylist()
    return {
        str(video["item_id"]): Item(
            item_id=str(video["item_id"]),
            categories=(
                *(f"tag {tag}" for tag in (video["tag"] or "").split(",") if tag),
                f"upload {video['upload_type']}",
            ),
            author=str(video["author_id"]),
        )
        for video in videos
    }


def _without_copies(table: pa.Table) -> pa.Table:
    """The table less exact copies of a row; the first of each stays, in file order."""
    plain = table.drop_columns(["split"])  # a dictionary column; it follows from the date
    numbered = plain.append_column("row", pa.array(np.arange(table.num_rows)))
    first = numbered.group_by(plain.column_names).aggregate([("row", "min")])
    return table.take(np.sort(first.column("row_min").to_numpy()))
