"""The live table: what a line says, and when there is one."""

import io

import pytest
from rich.console import Console

from deploy import live
from deploy.live import HEADINGS, Figures, LiveTable, format_line


def line(figures: Figures, former: Figures | None = None, seconds: float = 65.0, since: float = 5.0) -> dict[str, str]:
    """A line's cells by heading."""
    return dict(zip(HEADINGS, format_line(figures, former or Figures(), seconds, since), strict=True))


def test_before_anything_is_known_there_are_dashes() -> None:
    """A zero would be read as a measurement."""
    cells = line(Figures(), seconds=0.0, since=0.0)
    assert cells["time"] == "0:00"
    for heading in ("HR@10 now", "HR@10", "popular", "snapshot", "->sequence", "->weights"):
        assert cells[heading] == "-"


def test_a_line_holds_every_figure() -> None:
    """Columns that are swapped look right."""
    figures = Figures(
        rows=12_345,
        records=25_000.0,
        lag=1_234,
        samples=11_000.0,
        events=11_000.0,
        hit_rate=0.1234,
        popularity_hit_rate=0.0567,
        vocabulary=1_682,
        version=17,
        sequence_p95_seconds=0.05,
        weights_p95_seconds=4.26,
        dead_letters=25,
    )
    assert line(figures, Figures(records=20_000.0)) == {
        "time": "1:05",
        "ratings": "12,345",
        "ev/s": "1,000",
        "lag": "1,234",
        "samples": "11,000",
        "HR@10 now": "0.123",
        "HR@10": "0.123",
        "popular": "0.057",
        "items": "1,682",
        "snapshot": "v17",
        "->sequence": "50 ms",
        "->weights": "4.3 s",
        "refused": "25",
    }


def test_the_present_rate_is_that_of_the_events_since_the_last_line() -> None:
    """The rate over all events hides what the learner does now."""
    former = Figures(events=1_000.0, hit_rate=0.10)
    assert line(Figures(events=2_000.0, hit_rate=0.15), former)["HR@10 now"] == "0.200"
    assert line(Figures(events=1_000.0, hit_rate=0.10), former)["HR@10 now"] == "-"


def test_a_worker_that_was_restarted_gives_no_negative_speed() -> None:
    """Until its partitions are back, fewer records count as applied."""
    assert line(Figures(records=5.0), Figures(records=5_000.0))["ev/s"] == "0"


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(live, "time", made)
    return made


def test_without_a_terminal_a_line_comes_every_few_seconds(clock: Clock) -> None:
    """A log file would fill with four lines a second, or stay empty."""
    out = io.StringIO()
    with LiveTable(Console(file=out, width=200)) as table:
        for _ in range(24):
            clock.now += 0.5
            table.update(Figures(rows=int(clock.now)))
        table.update(Figures(rows=100), last=True)
    lines = out.getvalue().splitlines()
    assert lines[0].split() == " ".join(HEADINGS).split()
    assert [row.split()[:2] for row in lines[1:]] == [["0:05", "15"], ["0:10", "20"], ["0:12", "100"]]
    assert len({len(row) for row in lines}) == 1


def test_in_a_terminal_the_table_shows_headings_and_the_newest_lines(clock: Clock) -> None:
    """A table that grows beyond the screen tears."""
    out = io.StringIO()
    with LiveTable(Console(file=out, width=200, force_terminal=True)) as table:
        for _ in range(live.SHOWN_LINES + 5):
            clock.now += live.LINE_SECONDS
            table.update(Figures(rows=int(clock.now)))
        shown = table._table(table._lines)
    assert shown.row_count == live.SHOWN_LINES
    assert [column.header for column in shown.columns] == list(HEADINGS)
    assert "snapshot" in out.getvalue()
    assert f"{int(clock.now):,}" in out.getvalue()
