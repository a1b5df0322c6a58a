"""The live table of the demo: one line every few seconds, in a terminal as a table, elsewhere as plain lines."""

import math
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

LINE_SECONDS = 5.0
"""Time between two lines."""
SHOWN_LINES = 18
"""Lines that the table shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What the processes say at one moment; rates are over all events so far, NaN before the first."""

    rows: int = 0
    records: float = 0.0
    """Records that the worker has applied."""
    lag: int = 0
    """Records that the worker has not applied yet."""
    samples: float = 0.0
    events: float = 0.0
    """Events scored by the learner."""
    hit_rate: float = float("nan")
    popularity_hit_rate: float = float("nan")
    vocabulary: int = 0
    version: int = 0
    sequence_p95_seconds: float | None = None
    weights_p95_seconds: float | None = None
    dead_letters: int = 0


HEADINGS = (
    *("time", "ratings", "ev/s", "lag", "samples", "HR@10 now", "HR@10", "popular", "items", "snapshot"),
    *("->sequence", "->weights", "refused"),
)
"""Columns of the table; `popular` is decayed popularity's HR@10 on the same events, delays are 95th percentiles."""


class LiveTable:
    """Shows lines of figures; `update` whenever there are new ones."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self._lines: list[tuple[str, ...]] = []
        self._former = Figures()
        self._former_at = self._started
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> "LiveTable":
        if self._live:
            self._live.start()
        else:
            self._print(HEADINGS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, figures: Figures, last: bool = False) -> None:
        """Show the figures; a line stays once it is `LINE_SECONDS` old, or is the last."""
        now = time.monotonic()
        line = format_line(figures, self._former, now - self._started, now - self._former_at)
        due = now - self._former_at >= LINE_SECONDS
        if self._live:
            self._live.update(self._table([*self._lines, line]))
        if due or last:
            self._lines.append(line)
            self._former, self._former_at = figures, now
            if not self._live:
                self._print(line)

    def _table(self, lines: list[tuple[str, ...]]) -> Table:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for heading in HEADINGS:
            table.add_column(heading, justify="right")
        for line in lines[-SHOWN_LINES:]:
            table.add_row(*line)
        return table

    def _print(self, cells: tuple[str, ...]) -> None:
        text = " ".join(cell.rjust(len(heading) + 1) for cell, heading in zip(cells, HEADINGS, strict=True))
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def format_line(figures: Figures, former: Figures, seconds: float, since_seconds: float) -> tuple[str, ...]:
    """One line; `former` are the figures of the line before, for rates since then."""
    speed = (figures.records - former.records) / max(since_seconds, 1e-9)
    return (
        f"{int(seconds) // 60}:{int(seconds) % 60:02d}",
        f"{figures.rows:,}",
        f"{max(speed, 0):,.0f}",
        f"{figures.lag:,}",
        f"{figures.samples:,.0f}",
        _rate(_recent_rate(figures, former)),
        _rate(figures.hit_rate),
        _rate(figures.popularity_hit_rate),
        f"{figures.vocabulary:,}",
        f"v{figures.version}" if figures.version else "-",
        _delay(figures.sequence_p95_seconds),
        _delay(figures.weights_p95_seconds),
        f"{figures.dead_letters}",
    )


def _recent_rate(figures: Figures, former: Figures) -> float:
    scored = figures.events - former.events
    if scored <= 0:
        return float("nan")
    hits = figures.hit_rate * figures.events - (former.hit_rate * former.events if former.events else 0.0)
    return hits / scored


def _rate(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _delay(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
