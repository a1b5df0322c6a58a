"""`headwater evaluate stream-synthetic`: architectures on a made stream in a single pass, in percent of an oracle."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from deploy.run_state import RunState
from deploy.stream_table import Row, best_runs, draw_losses, summarize, summary_line
from deploy.torch_device import torch_device
from model.stream_run import StreamRun, StreamSettings

PROTOCOL = (
    "Synthetic stream protocol (arXiv 2402.17152, appendix C): records come once, in order, over ids of which 60 % "
    "arrive during the stream. Learned on the first 90 %, then frozen; in the last 10 % every item after a record's "
    "first is ranked among all ids that are there. The oracle knows each record's categories and their probabilities. "
    "Of the learning rates, each model's best is the one with the lowest loss on the last tenth of what it learned, "
    "taken before each step: the test chooses nothing."
)


def evaluate_stream(
    plans: Sequence[StreamSettings],
    *,
    resume: Path | None = None,
    plot: Path | None = None,
    device: str = "cpu",
    num_threads: int = 1,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run all plans, print and return their figures, which do not depend on how often the command was cut short.

    `resume` names a folder, in which each plan keeps its state after each part of the stream. Raises `ValueError` for
    two equal plans and `SetupError`.
    """
    console = console or Console()
    torch.set_num_threads(num_threads)
    names = [plan_name(plan) for plan in plans]
    if len(set(names)) != len(names):
        raise ValueError(f"plans must differ in model, rate or seed, got {', '.join(names)}")
    console.print(PROTOCOL, markup=False, highlight=False)
    if resume is not None:
        resume.mkdir(parents=True, exist_ok=True)
    runs = []
    for plan, name in zip(plans, names, strict=True):
        state = RunState(resume / f"{name}.state" if resume else None, asdict(plan))
        runs.append(_run(plan, state, torch_device(device), console, name))
    best = [best_runs(runs, model) for model in dict.fromkeys(plan.encoder for plan in plans)]
    summary = [summarize(own) for own in best]
    for row in summary:
        console.print(summary_line(row), markup=False, highlight=False, soft_wrap=True)
    if plot is not None:
        draw_losses(plot, [own[0] for own in best])
    shared = {name: value for name, value in asdict(plans[0]).items() if name not in ("encoder", "rate", "seed")}
    return {"protocol": PROTOCOL, "settings": shared, "models": summary, "runs": runs}


def plan_name(plan: StreamSettings) -> str:
    """What tells the runs of one command apart.

    >>> plan_name(StreamSettings(rate=0.003, seed=1))
    'hstu-no-rab-0.003-1'
    """
    return f"{plan.encoder}-{plan.rate:g}-{plan.seed}"


def _run(plan: StreamSettings, state: RunState, device: torch.device, console: Console, name: str) -> Row:
    run = StreamRun(plan, device)
    saved = state.load()
    rows = saved.rows
    if rows:
        run.trainer.load(saved.arrays)
    started = time.monotonic()
    for number in range(len(rows), run.stream.num_learned_parts):
        rows.append({"loss": _mean_loss(run, number, console, name)})
        state.save(run.trainer.state(), rows)
    if "percent@10" not in rows[-1]:
        rows[-1] |= {key: round(value, 6) for key, value in run.figures().items()}
        state.save(run.trainer.state(), rows)
    last = rows[-1]
    line = f"{name}: HR@10 {last['hr@10']:.4f}, {last['percent@10']:.1f} % of the oracle, loss {last['loss']:.4f}"
    console.print(f"{line}, {time.monotonic() - started:.0f} s", markup=False, highlight=False)
    tenth = max(1, len(rows) // 10)
    late = round(float(np.mean([row["loss"] for row in rows[-tenth:]])), 6)
    figures = {key: value for key, value in last.items() if key != "loss"}
    shown = {"model": plan.encoder, "rate": plan.rate, "seed": plan.seed, "late_loss": late}
    return {**shown, **figures, "losses": [row["loss"] for row in rows]}


def _mean_loss(run: StreamRun, number: int, console: Console, name: str) -> float:
    steps: Iterable[float] = run.learn_part(number)
    if console.is_terminal:
        title = f"{name}, part {number + 1} of {run.stream.num_learned_parts}"
        steps = track(steps, title, run.num_steps(), console=console, transient=True)
    return round(float(np.mean(list(steps))), 6)
