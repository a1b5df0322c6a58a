"""`headwater evaluate leave-one-out`: a model over many epochs, then each user's last item among all items."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from deploy.plots import draw_curves
from deploy.run_state import RunState
from deploy.torch_device import torch_device
from model.corpus import Corpus
from model.leave_one_out import LeaveOneOut, LeaveOneOutSettings

PRESETS: dict[str, dict[str, int]] = {
    "base": {"num_layers": 2, "num_heads": 1},
    "large": {"num_layers": 8, "num_heads": 2},
}
"""The published shapes for MovieLens-1M; both are 50 wide."""
PROTOCOL = (
    "Leave-one-out protocol: users' events in order of time, nothing filtered by count. Learned from all but each "
    "user's last event, which is then ranked among the whole catalogue less the user's earlier items; its time is "
    "given, as it would be at serving. Ties count half. No validation set: the figures are those after the last epoch; "
    "`best` is chosen on the test items and therefore too high."
)
_Row = dict[str, Any]


def evaluate_leave_one_out(
    corpus: Corpus,
    settings: LeaveOneOutSettings,
    *,
    evaluate_every: int = 5,
    resume: Path | None = None,
    plot: Path | None = None,
    device: str = "auto",
    num_threads: int = 1,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run the protocol, print and return its figures, which do not depend on how often the run was cut short.

    Figures are taken every so many epochs and after the last. `resume` names the file where the state is kept after
    each epoch and that the run goes on from where it is there. Raises `ValueError` and `SetupError`.
    """
    if evaluate_every < 1:
        raise ValueError(f"evaluate_every must be >= 1, got {evaluate_every}")
    console = console or Console()
    torch.set_num_threads(num_threads)
    console.print(PROTOCOL, markup=False, highlight=False)
    state = RunState(resume, _identity(corpus, settings, evaluate_every))
    run = LeaveOneOut(corpus, settings, torch_device(device))
    _print_facts(console, corpus, settings, run)
    rows = _train(run, state, evaluate_every, console)
    figures = _figures(corpus, settings, rows)
    for name, value in figures["last"].items():
        console.print(f"  {name:10} {value}", markup=False, highlight=False)
    if plot is not None:
        evaluated = [row for row in rows if "hr@10" in row]
        curves = {name: [(row["epoch"], row[name]) for row in evaluated] for name in ("hr@10", "ndcg@10")}
        title = f"{settings.encoder} on {corpus.name}, leave-one-out, seed {settings.seed}"
        draw_curves(plot, curves, title=title, x="epoch", y="rate among all items")
    return figures


def _train(run: LeaveOneOut, state: RunState, evaluate_every: int, console: Console) -> list[_Row]:
    saved = state.load()
    rows, num_epochs = saved.rows, run.settings.num_epochs
    if len(rows) > num_epochs:
        raise ValueError(f"epochs must be >= {len(rows)}, as many as {state.path} holds already, got {num_epochs}")
    if rows:
        run.trainer.load(saved.arrays)
        console.print(f"going on after epoch {len(rows)}")
    seconds = []
    for epoch in range(len(rows) + 1, num_epochs + 1):
        started = time.monotonic()
        row: _Row = {"epoch": epoch, "loss": _epoch_loss(run, epoch, console)}
        seconds.append(time.monotonic() - started)
        if epoch % evaluate_every == 0 or epoch == num_epochs:
            row |= {name: round(value, 6) for name, value in run.figures().items()}
        rows.append(row)
        state.save(run.trainer.state(), rows)
        said = "".join(f", {name} {row[name]:.4f}" for name in ("hr@10", "ndcg@10") if name in row)
        line = f"epoch {epoch} of {num_epochs}: loss {row['loss']:.4f}{said}, {seconds[-1]:.1f} s"
        console.print(line, markup=False, highlight=False)
    if seconds:
        line = f"{median(seconds):.1f} s an epoch (median), {sum(seconds):,.0f} s for {len(seconds)} epochs of learning"
        console.print(line, markup=False, highlight=False)
    return rows


def _epoch_loss(run: LeaveOneOut, epoch: int, console: Console) -> float:
    steps: Iterable[float] = run.run_epoch(epoch)
    if console.is_terminal:
        steps = track(steps, f"epoch {epoch}", run.num_steps(), console=console, transient=True)
    losses = list(steps)
    return round(sum(losses) / len(losses), 6)


def _print_facts(console: Console, corpus: Corpus, settings: LeaveOneOutSettings, run: LeaveOneOut) -> None:
    weights = sum(value.numel() for value in run.model.parameters())
    facts = f"{corpus.name}: {corpus.num_users:,} users, {corpus.num_items:,} items, {len(corpus.items_T):,} events"
    console.print(f"{facts}; {weights:,} weights; {settings}", markup=False, highlight=False)


def _figures(corpus: Corpus, settings: LeaveOneOutSettings, rows: list[_Row]) -> dict[str, Any]:
    evaluated = [row for row in rows if "hr@10" in row]
    return {
        "protocol": PROTOCOL,
        "data": corpus.name,
        "users": corpus.num_users,
        "items": corpus.num_items,
        "events": len(corpus.items_T),
        "settings": asdict(settings),
        "last": rows[-1],
        "best": max(evaluated, key=lambda row: float(row["hr@10"])),
        "curve": rows,
    }


def _identity(corpus: Corpus, settings: LeaveOneOutSettings, evaluate_every: int) -> dict[str, Any]:
    """Everything that the figures follow from but the number of epochs: a run may be made longer."""
    digest = hashlib.sha256()
    for column in (corpus.offsets, corpus.items_T, corpus.seconds_T):
        digest.update(column.tobytes())
    identity = {"data": digest.hexdigest(), **asdict(settings), "evaluate_every": evaluate_every}
    del identity["num_epochs"]
    return identity
