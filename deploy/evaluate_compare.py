"""`headwater evaluate compare A B`: the ranks of two runs on one stream, held against each other event by event."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from deploy.evaluate import finite_or_null
from deploy.ranks_file import RanksFile, read_ranks
from model.comparison import Comparison, Difference, McNemar, WindowComparison, compare, sliding_windows

PROTOCOL = (
    "Comparison of two runs on one stream: the same targets, after the warm-up, repeats left out. Differences are A "
    "less B; intervals are 95 % of 1,000 bootstrap resamples of users. McNemar's test is of HR@10, two-sided: exact up "
    "to 25 targets that one hit and the other missed, else chi squared with correction for continuity."
)


def evaluate_compare(
    path_a: Path, path_b: Path, *, window: int = 10_000, console: Console | None = None
) -> dict[str, Any]:
    """Compare two files of ranks, over all targets and in sliding windows of so many; print and return the figures.

    Raises `SetupError` for files that are none, and `ValueError` where they are not of one stream.
    """
    console = console or Console()
    console.print(PROTOCOL, markup=False, highlight=False)
    a, b = read_ranks(path_a), read_ranks(path_b)
    _check_one_stream(a, b)
    counted = a.counted()
    users = np.unique(np.array(a.user_ids), return_inverse=True)[1]
    whole = compare(a.ranks[counted], b.ranks[counted], users[counted])
    windows = list(sliding_windows(a.ranks[counted], b.ranks[counted], window))
    for line in (f"A: {path_a}", f"B: {path_b}", *_lines(whole)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    events = a.events[counted].tolist()
    rows = [{"first_event": events[part.first], **asdict(part)} for part in windows]
    for row, part in zip(rows, windows, strict=True):
        console.print(_window_line(row["first_event"], part), markup=False, highlight=False, soft_wrap=True)
    figures: dict[str, Any] = finite_or_null(asdict(whole))
    return {"protocol": PROTOCOL, "a": str(path_a), "b": str(path_b), **figures, "windows": finite_or_null(rows)}


def _check_one_stream(a: RanksFile, b: RanksFile) -> None:
    same = np.array_equal(a.events, b.events) and (a.user_ids, a.item_ids) == (b.user_ids, b.item_ids)
    if not same or a.count_from != b.count_from:
        raise ValueError(
            f"both files must rank the same targets of one stream, got {len(a.events)} in {a.path} and "
            f"{len(b.events)} in {b.path}: run both on the same --data and --limit"
        )


def _lines(whole: Comparison) -> list[str]:
    def said(name: str, difference: Difference) -> str:
        interval = f"[{difference.low:+.4f}, {difference.high:+.4f}]"
        return f"{name}: A {difference.a:.4f}, B {difference.b:.4f}, A - B {difference.difference:+.4f} {interval}"

    rates = [said("HR@10", whole.hit_rate), said("NDCG@10", whole.ndcg)]
    return [f"{whole.events:,} targets", *rates, _mcnemar_line(whole.mcnemar)]


def _mcnemar_line(test: McNemar) -> str:
    kind = "exact" if test.exact else f"chi squared {test.statistic:.2f}"
    return f"McNemar: hit by A alone {test.only_a:,}, by B alone {test.only_b:,}, {kind}, p = {test.p_value:.3g}"


def _window_line(first_event: int, part: WindowComparison) -> str:
    rates = f"HR@10 A {part.hit_rate_a:.4f}, B {part.hit_rate_b:.4f}"
    return f"  {part.events:,} targets from event {first_event:,}: {rates}; p = {part.mcnemar.p_value:.3g}"
