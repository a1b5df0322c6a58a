"""`headwater evaluate rank`: the odds of every action on every exposure of a data set, before it is learned."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from deploy.evaluate import dataset_digest, finite_or_null, interactions, model_of
from deploy.plots import draw_curves
from deploy.run_state import RunState
from model.cutoffs import cutoff_figures
from model.din import DINSettings, din_logits
from model.layout import Integers
from model.metrics import Floats
from model.popularity import HALF_LIFE_EVENTS
from model.prequential import Targets
from model.ranking_run import RankingRun, ranking_figures
from model.rate_bar import rate_bar_logits
from model.settings import LearnSettings, ModelSettings
from model.value_bar import value_bar
from streams.dataset import Dataset

NUM_PARTS = 20
WARM_UP_PARTS = 2
_WHO = ("model", "din", "bar", "both")
PROTOCOL = (
    "Ranking protocol: exposures in time order, ties in file order; each is scored for every action with weights, "
    "history and counts before it, then learned. The first 10 % are learned, not counted. `din` is a ranker like DIN. "
    "The bar adds the log odds of the item's and of the user's rate so far, with two weights and a bias learned "
    "online; `both` is the bar with the model's log odds as a third input. NE is the log loss over the entropy of the "
    "action's rate; intervals of AUC are 95 % (Hanley & McNeil). Retrieval: rank of each item that a user acted on for "
    "the first time, among all items so far that the user had not acted on; popularity decays by half in "
    f"{HALF_LIFE_EVENTS:,} actions. Value (with `predict_values`): what comes with an action; its bar is the mean of "
    "the item's so far."
)


def evaluate_rank(
    dataset: Dataset,
    model: ModelSettings,
    learn: LearnSettings,
    *,
    actions: Sequence[str] = (),
    resume: Path | None = None,
    plot: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run the protocol, print and return its figures, which do not depend on how often the run was cut short.

    `actions` are those that are reported, all of the data set's if there are none. `resume` names the file where the
    state is kept after each twentieth. Raises `ValueError` for an action that the data set lacks, and `SetupError`.
    """
    unknown = set(actions) - set(dataset.action_names)
    if unknown or len(dataset) < NUM_PARTS:
        what = f"actions must be among {', '.join(dataset.action_names)}, got {', '.join(sorted(unknown))}"
        raise ValueError(what if unknown else f"a data set must have >= {NUM_PARTS} events, got {len(dataset)}")
    console = console or Console()
    console.print(PROTOCOL, markup=False, highlight=False)
    model = model_of(dataset, model)
    state = RunState(resume, {"data": dataset_digest(dataset), "model": asdict(model), "learn": asdict(learn)})
    run = RankingRun(model, learn, dataset.user_features)
    _feed(run, dataset, state, console)
    model_logits = run.logits_EA.astype(np.float64)
    columns = (dataset.user_ids, dataset.item_ids, dataset.actions, len(dataset.action_names))
    logits = {
        "model": model_logits,
        "din": _din(columns, learn.seed, console),
        "bar": rate_bar_logits(*columns),
        "both": rate_bar_logits(*columns, model_logits),
    }
    figures = {name: _action_figures(dataset, name, logits) for name in actions or dataset.action_names}
    for name, row in figures.items():
        console.print(_line(name, row), markup=False, highlight=False, soft_wrap=True)
    retrieval = _retrieval_figures(run.targets, _edges(len(dataset))[WARM_UP_PARTS])
    console.print(_retrieval_line(retrieval), markup=False, highlight=False, soft_wrap=True)
    values = _value_figures(dataset, run.values_E) if model.predict_values else None
    if values is not None:
        line = "value ({events:,}): mean absolute error model {model}, bar {bar}".format(**values)
        console.print(line, markup=False, highlight=False)
    if plot is not None:
        _draw(plot, dataset.name, figures)
    return {
        "protocol": PROTOCOL,
        "data": dataset.name,
        "events": len(dataset),
        "actions": figures,
        "retrieval": retrieval,
        **({} if values is None else {"value": values}),
    }


def _feed(run: RankingRun, dataset: Dataset, state: RunState, console: Console) -> None:
    """Run all events, from where the state left off."""
    events, saved = list(interactions(dataset)), state.load()
    rows = saved.rows
    if rows:
        run.load(saved.arrays, events[: rows[-1]["events"]])
        console.print(f"going on after {rows[-1]['events']:,} events", markup=False, highlight=False)
    edges = _edges(len(events))
    started = time.monotonic()
    for part in range(len(rows), NUM_PARTS):
        run.feed(events[edges[part] : edges[part + 1]])
        rows.append({"events": edges[part + 1]})
        state.save(run.state(), rows)
        line = f"{edges[part + 1]:,} of {len(events):,} events, {time.monotonic() - started:.0f} s"
        console.print(line, markup=False, highlight=False)


def _din(columns: tuple[Sequence[str], Sequence[str], Integers, int], seed: int, console: Console) -> Floats:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("a ranker like DIN", total=len(columns[0]))
        return din_logits(
            *columns, DINSettings(seed=seed), progress=lambda events: progress.update(task, completed=events)
        )


def _edges(num_events: int) -> list[int]:
    return [num_events * part // NUM_PARTS for part in range(NUM_PARTS + 1)]


def _action_figures(dataset: Dataset, name: str, logits: dict[str, Floats]) -> dict[str, Any]:
    """Of one action: all that give odds, over all counted events and by twentieth."""
    column, edges = dataset.action_names.index(name), _edges(len(dataset))
    labels = (dataset.actions >> column) & 1 == 1
    counted = slice(edges[WARM_UP_PARTS], None)
    row: dict[str, Any] = {"events": len(labels[counted]), "positives": int(labels[counted].sum())}
    scores = {who: columns[:, column] for who, columns in logits.items()}
    row |= {who: ranking_figures(own[counted], labels[counted]) for who, own in scores.items()}
    row["curve"] = [
        {
            "events": high,
            **{who: ranking_figures(own[low:high], labels[low:high])["auc"] for who, own in scores.items()},
        }
        for low, high in pairwise(edges)
    ]
    figures: dict[str, Any] = finite_or_null(row)
    return figures


def _line(name: str, row: dict[str, Any]) -> str:
    def said(who: str) -> str:
        figures = row[who]
        if figures["auc"] is None:
            return f"{who} has no AUC, as one label is absent"
        return f"{who} AUC {figures['auc']:.4f} +- {figures['auc_half_width']:.4f}, NE {figures['ne']:.4f}"

    return f"{name} ({row['positives']:,} of {row['events']:,}): {'; '.join(map(said, _WHO))}"


def _value_figures(dataset: Dataset, predicted: Floats) -> dict[str, Any]:
    """Mean absolute errors over the counted events with a value: the model's, and of the item's values so far."""
    counted = np.flatnonzero(np.isfinite(dataset.values[_edges(len(dataset))[WARM_UP_PARTS] :]))
    counted += _edges(len(dataset))[WARM_UP_PARTS]
    values = dataset.values.astype(np.float64)
    told = {"model": predicted, "bar": value_bar(dataset.item_ids, values)}
    errors = {who: float(np.abs(own - values)[counted].mean()) for who, own in told.items()}
    figures: dict[str, Any] = finite_or_null({"events": len(counted), **errors})
    return figures


def _retrieval_figures(targets: Targets, first: int) -> dict[str, Any]:
    """Of the first actions of a user on an item, from an event on: the model and decayed popularity."""
    counted = (targets.numbers >= first) & ~targets.repeat
    who = {"model": targets.ranks[counted], "popularity": targets.popularity_ranks[counted]}
    return {"targets": int(counted.sum()), **{name: cutoff_figures(ranks) for name, ranks in who.items() if len(ranks)}}


def _retrieval_line(figures: dict[str, Any]) -> str:
    def said(who: str) -> str:
        return f"{who} HR@10 {figures[who]['hr@10']:.4f}, HR@50 {figures[who]['hr@50']:.4f}"

    told = "; ".join(said(who) for who in ("model", "popularity") if who in figures)
    return f"retrieval ({figures['targets']:,} first actions): {told or 'none'}"


def _draw(path: Path, data: str, figures: dict[str, Any]) -> None:
    curves = {
        f"{name}, {who}": [(part["events"], part[who]) for part in row["curve"] if part[who] is not None]
        for name, row in figures.items()
        for who in ("model", "din", "bar")
    }
    draw_curves(path, curves, title=f"Ranking on {data}", x="events", y="AUC of a twentieth")
