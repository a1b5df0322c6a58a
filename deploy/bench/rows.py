"""The rows of a benchmark's table: what is to be run, what came of it, the file that holds them."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from rich.bar import Bar
from rich.console import RenderableType
from rich.table import Table

from deploy.bench.event_log import EventLog
from deploy.json_file import write_json
from storage.errors import SetupError

System: TypeAlias = Literal["faust-table", "quixstreams", "kafka-streams", "aiokafka", "headwater"]
Job: TypeAlias = Literal["append", "decode", "whole"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One run to make."""

    system: System
    job: Job
    workers: int
    log: EventLog
    events: int
    """How many of the log's events it takes in."""
    round: int = 1

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from the other runs of the table."""
        return self.system, self.job, self.workers, self.log.users, self.events, self.round

    @property
    def name(self) -> str:
        """What a progress line calls it."""
        return f"{self.system} {self.job}, {self.workers} workers, {self.log.users:,} users, {self.events:,} events"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What a run gave; figures are None where it was not run or does not tell."""

    system: str
    job: str
    workers: int
    users: int
    events: int
    round: int
    events_per_second: float | None = None
    """From the first event to the end: all applied or committed, all samples in their topic."""
    job_cpu_seconds: float | None = None
    """User and system time of the job's processes, from their start to the end."""
    broker_cpu_seconds: float | None = None
    """The same of the broker, while the job's processes ran."""
    events_per_cpu_second: float | None = None
    """Events by CPU seconds of the job."""
    seconds: float | None = None
    peak_rss_mb: float | None = None
    """Of all its processes together."""
    samples: int | None = None
    """Samples in the topic at the end."""
    note: str = ""
    """Why it was not run; what else is to be known."""

    @classmethod
    def of(cls, planned: Planned, **figures: Any) -> Self:
        """The row of a run."""
        what = {name: getattr(planned, name) for name in ("system", "job", "workers", "events", "round")}
        return cls(**what, users=planned.log.users, **figures)

    @property
    def key(self) -> tuple[Any, ...]:
        """The key of the run that gave it."""
        return self.system, self.job, self.workers, self.users, self.events, self.round


@dataclass(slots=True)
class Results:
    """The rows so far, and the file that holds them."""

    file: Path | None
    options: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def resume(cls, file: Path | None, options: dict[str, Any]) -> Self:
        """The rows of a former run of the same command, but for those that say why they were not run.

        Raises `SetupError` where the file holds something else.
        """
        results = cls(file, options)
        if file is None or not file.exists():
            return results
        try:
            rows = [Row(**row) for row in json.loads(file.read_text())["rows"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SetupError(
                f"{file} holds no rows of this benchmark ({error}); name another file with --json"
            ) from error
        results.rows = [row for row in rows if row.events_per_second is not None]
        return results

    def holds(self, planned: Planned) -> bool:
        """Whether the run has been made."""
        return any(row.key == planned.key for row in self.rows)

    def add(self, row: Row) -> None:
        """Take in a row and write the file."""
        self.rows.append(row)
        write_json(
            self.file, {"machine": machine(), "options": self.options, "rows": [asdict(row) for row in self.rows]}
        )


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def results_table(rows: Sequence[Row]) -> Table:
    """The table, one line for all rounds of a run: medians, and the least and the largest rate."""
    table = Table()
    for name in ("system", "job", "workers", "users", "events", "events/s", "", "least-most", "events/CPU s"):
        table.add_column(name, no_wrap=True)
    for name in ("job CPU s", "broker CPU s", "RSS MB", "samples", "note"):
        table.add_column(name)
    most = max((row.events_per_second or 0.0 for row in rows), default=0.0)
    for key in dict.fromkeys(row.key[:-1] for row in rows):
        table.add_row(*_line([row for row in rows if row.key[:-1] == key], most))
    return table


def _line(rounds: list[Row], most: float) -> list[RenderableType]:
    first = rounds[0]
    rates = sorted(row.events_per_second for row in rounds if row.events_per_second is not None)
    spread = f"{rates[0]:,.0f}-{rates[-1]:,.0f}" if len(rates) > 1 else ""
    bar = Bar(most or 1.0, 0.0, statistics.median(rates or [0.0]), width=12)
    names = ("events_per_cpu_second", "job_cpu_seconds", "broker_cpu_seconds", "peak_rss_mb", "samples")
    figures = [_median(getattr(row, name) for row in rounds) for name in names]
    shown = (first.system, first.job, f"{first.workers}", f"{first.users:,}", f"{first.events:,}")
    return [*shown, _median(rates), bar, spread, *figures, first.note]


def _median(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    middle = statistics.median(known)
    return f"{middle:,.1f}" if middle < 100 else f"{middle:,.0f}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
