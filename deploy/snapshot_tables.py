"""Tables and lines about published versions."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.snapshot_diff import ArrayDiff, SnapshotDiff
from deploy.snapshots import SnapshotRow, version_name
from storage.alias import Alias

MIN_WIDTH = 120
"""Columns that a table may take whatever the terminal has: cut short, a version could not be typed."""


def print_table(table: Table) -> None:
    """Print a table; where the terminal is narrow its lines fold."""
    console = Console()
    Console(width=max(console.width, MIN_WIDTH)).print(table)


def snapshot_table(rows: Sequence[SnapshotRow]) -> Table:
    """Versions, the newest first."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("version", "kind", "bytes", "created (UTC)", "step", "events", "HR@10 now", "HR@10"):
        table.add_column(heading, justify="left" if heading in ("version", "kind") else "right", no_wrap=True)
    table.add_column("what points to it")
    for row in rows:
        name, points = version_name(row.run_id, row.version), ", ".join(row.pointed_by)
        if row.problem is not None:
            table.add_row(name, "damaged", *[""] * 6, Text("; ".join(filter(None, [points, row.problem]))))
            continue
        figures = (f"{row.bytes:,}", _time(row.created_ms), f"{row.step:,}", _count(row.events))
        held_back = row.held_back and f"held back: {row.held_back}"
        noted = Text("; ".join(filter(None, [points, held_back])))
        table.add_row(name, row.kind, *figures, _rate(row.recent_hit_rate), _rate(row.hit_rate), noted)
    return table


def alias_line(name: str, alias: Alias) -> str:
    """Where an alias points, and who moved it there, when and why."""
    pin = alias.pinned
    where = "tracks latest" if pin is None else f"pinned to {version_name(pin.run_id, pin.version)}"
    if alias.generation == 0:
        return f"{name} {where}"
    by, reason = alias.moved_by and f" by {alias.moved_by}", alias.reason and f": {alias.reason}"
    return f"{name} {where}, generation {alias.generation}, moved {_time(alias.moved_ms)} UTC{by}{reason}"


def array_table(diff: SnapshotDiff) -> Table:
    """The arrays that differ."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    headings = ("array", "shape in A", "in B", "rows that differ", "largest difference")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "array" else "right", no_wrap=True)
    for each in diff.arrays:
        table.add_row(Text(each.name), _shape(each.shape_a), _shape(each.shape_b), *_differences(each))
    return table


def metric_table(diff: SnapshotDiff) -> Table:
    """The figures of both, side by side."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("figure", "A", "B", "difference"):
        table.add_column(heading, justify="left" if heading == "figure" else "right", no_wrap=True)
    for name, (of_a, of_b) in diff.metrics.items():
        change = "" if of_a is None or of_b is None else f"{of_b - of_a:+.4g}"
        table.add_row(Text(name), *("-" if value is None else f"{value:.6g}" for value in (of_a, of_b)), change)
    return table


def _differences(each: ArrayDiff) -> tuple[str, str]:
    if each.num_rows is None:
        return "another shape or type" if each.shape_a and each.shape_b else "-", "-"
    return f"{each.num_rows:,}", "-" if each.max_difference is None else f"{each.max_difference:.3g}"


def _shape(shape: list[int] | None) -> str:
    return "absent" if shape is None else f"[{', '.join(map(str, shape))}]"


def _time(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    # A manifest may say any number.
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
