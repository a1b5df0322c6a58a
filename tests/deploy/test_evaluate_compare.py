"""`headwater evaluate compare`: two files of ranks, event by event."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console

from deploy.evaluate_compare import evaluate_compare
from deploy.ranks_file import read_ranks, write_ranks
from model.evaluation import EventRank
from storage.errors import SetupError

RANKS = [
    EventRank(event=number, user_id=f"u{number % 3}", item_id=f"i{number // 3}", rank=float(1 + number % 15))
    for number in range(60)
]
REPEAT = EventRank(event=60, user_id="u0", item_id="i0", rank=1.0)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A has ranks 1 to 15 in turn; B misses every third event of theirs, the repeat at the end is hit by A alone."""
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write_ranks(a, [*RANKS, REPEAT], 30)
    worse = [replace(rank, rank=float("inf")) if rank.event % 3 == 0 else rank for rank in RANKS]
    write_ranks(b, [*worse, replace(REPEAT, rank=99.0)], 30)
    return a, b


def test_ranks_that_were_written_are_read_and_know_what_counts(files: tuple[Path, Path]) -> None:
    """Warm-up and repeats would be compared, too, and the rates be others than the runs'."""
    a = read_ranks(files[0])
    assert (a.events.tolist(), a.user_ids[:4], a.item_ids[:4]) == (
        list(range(61)),
        ["u0", "u1", "u2", "u0"],
        ["i0", "i0", "i0", "i1"],
    )
    assert a.ranks.tolist() == [rank.rank for rank in [*RANKS, REPEAT]]
    assert a.count_from == 30
    assert a.counted().nonzero()[0].tolist() == list(range(30, 60))


def test_figures_are_those_of_the_counted_targets(files: tuple[Path, Path]) -> None:
    """By hand: of ranks 1 to 15, twice, ten are hits; of B's, those of events 30, 33, 36, 39, 45, ... are not."""
    out = io.StringIO()
    figures = evaluate_compare(*files, window=20, console=Console(file=out, width=200))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["events"] == 30
    assert figures["hit_rate"]["a"] == round(20 / 30, 6)
    assert figures["hit_rate"]["b"] == round(12 / 30, 6)
    assert (figures["mcnemar"]["only_a"], figures["mcnemar"]["only_b"]) == (8, 0)
    assert figures["mcnemar"]["p_value"] == round(2 / 2**8, 6)
    assert [(row["first_event"], row["events"]) for row in figures["windows"]] == [(30, 20), (40, 20)]
    assert figures["windows"][0]["hit_rate_a"] == 0.75
    assert "HR@10: A 0.6667, B 0.4000, A - B +0.2667" in out.getvalue()
    assert "hit by A alone 8, by B alone 0, exact, p = 0.00781" in out.getvalue()
    assert "20 targets from event 40: " in out.getvalue()


def test_runs_on_different_streams_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Event 7 of one data set would be held against event 7 of another."""
    other = tmp_path / "other.parquet"
    for ranks, count_from in ((RANKS[:-1], 30), ([*RANKS, REPEAT], 31), ([*RANKS, replace(REPEAT, user_id="x")], 30)):
        write_ranks(other, list(ranks), count_from)
        with pytest.raises(ValueError, match="must rank the same targets of one stream"):
            evaluate_compare(files[0], other, console=Console(file=io.StringIO()))


def test_files_that_hold_no_ranks_are_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    """A traceback of Parquet's says nothing of which file."""
    bad, bare = tmp_path / "bad.parquet", tmp_path / "bare.parquet"
    bad.write_text("no table")
    pyarrow.parquet.write_table(pa.table({"event": [1]}), bare)
    for path in (bad, bare, tmp_path / "absent.parquet"):
        with pytest.raises(SetupError, match=f"cannot read ranks from {path}"):
            evaluate_compare(files[0], path, console=Console(file=io.StringIO()))
