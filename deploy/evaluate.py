"""`headwater evaluate prequential`: a data set through the learner's own step, without Kafka."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deploy.plots import draw_curves
from deploy.prequential_state import KeptRun
from deploy.ranks_file import write_ranks
from deploy.run_state import RunState
from model.evaluation import EventRank, Interaction, PrequentialReport, prequential_run
from model.prequential import PrequentialFigures
from model.settings import LearnSettings, ModelSettings
from streams.dataset import Dataset
from streams.descriptions import description_of
from streams.items import encode_item

_CURVES = ("recent_hit_rate", "recent_popularity_hit_rate")
LINES = 20
"""Progress lines where there is no terminal."""
PROTOCOL = (
    "Prequential protocol: events in time order, ties in file order; each is scored with weights, history and "
    "candidates before it, then learned. Rates are at rank 10 among all items seen so far, less those that the user "
    "acted on; an item never seen before is a miss. The first 10 % are learned, not counted. `popularity` is "
    "decayed popularity (half-life 5,000 events) on the same events."
)


def evaluate_prequential(
    dataset: Dataset,
    model: ModelSettings,
    learn: LearnSettings,
    *,
    freeze_after: float | None = None,
    ranks: Path | None = None,
    resume: Path | None = None,
    plot: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run the protocol over a data set, print and return its figures.

    But for `seconds`, which are of this process, they do not depend on how often the run was cut short. `resume` names
    the file where the state is kept after each twentieth. Raises `SetupError`, and `ValueError` for shares outside
    [0, 1].
    """
    console = console or Console()
    model = model_of(dataset, model)
    console.print(PROTOCOL, markup=False, highlight=False)
    identity = {"data": dataset_digest(dataset), "model": asdict(model), "learn": asdict(learn)}
    kept = KeptRun(RunState(resume, {**identity, "freeze_after": freeze_after}), dataset, model, learn)
    report = _run(kept, dataset, freeze_after, console)
    run = {"data": dataset.name, "freeze_after": freeze_after}
    drifts = dataset.drift_rows
    return tell_run(console, run, report, kept.rows, kept.ranks, ranks=ranks, plot=plot, drifts=drifts)


def tell_run(
    console: Console,
    run: dict[str, Any],
    report: PrequentialReport,
    rows: list[dict[str, Any]],
    kept: list[EventRank],
    *,
    ranks: Path | None,
    plot: Path | None,
    drifts: list[int],
) -> dict[str, Any]:
    """Print what a run is and its figures, write the files that were asked for, and return all of it with the curve.

    `drifts` are the rows of the data set at which its stream is known to drift.
    """
    if ranks is not None:
        write_ranks(ranks, kept, report.warm_up_events)
    figures = {**run, **_figures(report)}
    for name, value in figures.items():
        console.print(f"  {name:34} {value}", markup=False, highlight=False)
    if plot is not None:
        curves = {name: [(row["events"], row[name]) for row in rows if row[name] is not None] for name in _CURVES}
        title = f"Prequential on {run['data']}"
        draw_curves(plot, curves, title=title, x="events", y="HR@10 of a twentieth", drifts=drifts)
    return {**figures, "curve": rows, "drifts": drifts}


def _run(kept: KeptRun, dataset: Dataset, freeze_after: float | None, console: Console) -> PrequentialReport:
    with EventProgress(console, len(dataset)) as progress:

        def show(events: int, figures: PrequentialFigures) -> None:
            progress.show(events, figures)
            kept.note(events, figures)

        for item in dataset.items.values():
            kept.learner.describe(description_of(item))
        return prequential_run(
            kept.learner,
            interactions(dataset),
            total=len(dataset),
            freeze_after=freeze_after,
            progress=show,
            ranks=kept.ranks,
            user_features=dataset.user_features,
        )


def dataset_digest(dataset: Dataset) -> str:
    """Tells a data set from every other."""
    ids = [dataset.user_ids, dataset.item_ids, *([dataset.user_features] if dataset.user_features else [])]
    digest = hashlib.sha256(json.dumps(ids).encode())
    for item in dataset.items.values():
        digest.update(encode_item(item))
    for column in (dataset.ts_ms, dataset.actions, dataset.values, dataset.groups):
        digest.update(b"" if column is None else column.tobytes())
    return digest.hexdigest()


def interactions(dataset: Dataset) -> Iterator[Interaction]:
    """The rows of a data set in its order."""
    groups = [-1] * len(dataset) if dataset.groups is None else dataset.groups.tolist()
    columns = (dataset.ts_ms.tolist(), dataset.actions.tolist(), dataset.values.tolist(), groups)
    for row in zip(dataset.user_ids, dataset.item_ids, *columns, strict=True):
        yield Interaction(*row)


def model_of(dataset: Dataset, model: ModelSettings) -> ModelSettings:
    """The settings with the data set's actions, and with its own positive action where it lacks theirs."""
    positive = model.positive_action if model.positive_action in dataset.action_names else ""
    return replace(model, actions=dataset.action_names, positive_action=positive)


def _figures(report: PrequentialReport) -> dict[str, Any]:
    figures = asdict(report)
    del figures["ranks"]
    return {name: finite_or_null(value) for name, value in figures.items()}


def finite_or_null(value: Any) -> Any:
    """The value to six digits, with null for what is not finite, which JSON cannot say."""
    if isinstance(value, dict):
        return {name: finite_or_null(part) for name, part in value.items()}
    if isinstance(value, list):
        return [finite_or_null(part) for part in value]
    if isinstance(value, float):
        return round(value, 6) if value - value == 0 else None
    return value


class EventProgress:
    """A bar in a terminal; elsewhere a line now and then."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self._shown = 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console) if console.is_terminal else None
        self._task = self._bar.add_task("", total=total) if self._bar else None

    def __enter__(self) -> "EventProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, events: int, figures: PrequentialFigures) -> None:
        """Show how far it is and how well it went so far."""
        text = f"HR@10 {figures.main.hit_rate:.3f}, popularity {figures.main.popularity_hit_rate:.3f}"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=events, description=text)
        elif events * LINES // self.total > self._shown:
            self._shown = events * LINES // self.total
            self.console.print(f"{events:,} of {self.total:,} events: {text}", markup=False, highlight=False)
