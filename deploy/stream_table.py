"""What runs of `headwater evaluate stream-synthetic` come to: each model at its best rate, over the seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.plots import draw_curves

Row = dict[str, Any]
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t for two-sided 95 % by number of seeds."""
_FIGURES = ("hr@10", "hr@50", "percent@10", "percent@50")


def best_runs(runs: Sequence[Row], model: str) -> list[Row]:
    """A model's runs at the rate whose mean loss over the last tenth of learning is lowest."""
    by_rate: dict[float, list[Row]] = {}
    for run in runs:
        if run["model"] == model:
            by_rate.setdefault(run["rate"], []).append(run)
    return min(by_rate.values(), key=lambda own: _mean(own, "late_loss"))


def summarize(best: Sequence[Row]) -> Row:
    """Means over the seeds and half widths of their 95 % intervals, null for one seed or more than five."""
    row: Row = {"model": best[0]["model"], "rate": best[0]["rate"], "seeds": [run["seed"] for run in best]}
    for name in _FIGURES:
        factor = _STUDENT.get(len(best))
        deviation = float(np.std([run[name] for run in best], ddof=1)) if factor else 0.0
        half_width = round(factor * deviation / len(best) ** 0.5, 6) if factor else None
        row |= {name: round(_mean(best, name), 6), f"{name}_half_width": half_width}
    return row


def summary_line(row: Row) -> str:
    """One line for people."""
    parts = []
    for name in _FIGURES:
        half_width = row[f"{name}_half_width"]
        digits = 1 if name.startswith("percent") else 4
        around = "" if half_width is None else f" +- {half_width:.{digits}f}"
        parts.append(f"{name} {row[name]:.{digits}f}{around}")
    return f"{row['model']} at rate {row['rate']:g}, seeds {row['seeds']}: " + ", ".join(parts)


def draw_losses(path: Path, curves: Sequence[Row]) -> None:
    """Draw the loss over the stream of some runs; raises `SetupError`."""
    points = {
        f"{run['model']}, rate {run['rate']:g}, seed {run['seed']}": list(enumerate(run["losses"], 1)) for run in curves
    }
    draw_curves(path, points, title="Single pass over a made stream", x="part of the stream", y="loss before each step")


def _mean(runs: Sequence[Row], name: str) -> float:
    return float(np.mean([run[name] for run in runs]))
