"""Prequential quality of the learner, its parts switched off, and its peers: runs, a table in Markdown, and a plot.

    HEADWATER_DATA=... python -m tests.benchmarks.prequential_table --folder FOLDER run [--data NAME ...] [--rows ...]
    HEADWATER_DATA=... python -m tests.benchmarks.prequential_table --folder FOLDER table

A run of a row, a data set and a seed is a process of its own; what is in FOLDER is not run again, so that a cut run
goes on with the same command. The table has medians over seeds, and holds each row against the learner's defaults event
by event, seed by seed (`headwater evaluate compare`): the median seed's difference in NDCG@10 with its 95 % interval,
and McNemar's p. All rows of the learner have one set of defaults, whatever the data.
"""

import argparse
import json
import multiprocessing
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console

from deploy.evaluate import evaluate_prequential
from deploy.evaluate_compare import evaluate_compare
from deploy.evaluate_peer import evaluate_peer
from deploy.json_file import write_json
from deploy.plots import draw_curves
from model.peers.peer_names import PeerName
from model.settings import LearnSettings, ModelSettings
from streams.dataset import Dataset
from streams.datasets import load_dataset

DEFAULTS = "learner"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One way to recommend."""

    model: ModelSettings = field(default_factory=ModelSettings)
    learn: LearnSettings = field(default_factory=LearnSettings)
    freeze_after: float | None = None
    peer: PeerName | None = None
    num_seeds: int = 3
    """1 where nothing is drawn."""


ROWS = {
    DEFAULTS: Row(),
    "no replay": Row(learn=LearnSettings(replay_events=0)),
    "no fast memory": Row(model=ModelSettings(transition_memory=False)),
    "no popularity prior": Row(model=ModelSettings(popularity_prior=False)),
    "no content": Row(model=ModelSettings(content_rows=0)),
    "neither, no replay": Row(
        model=ModelSettings(transition_memory=False, popularity_prior=False), learn=LearnSettings(replay_events=0)
    ),
    "frozen after 10 %": Row(freeze_after=0.1),
    "popularity": Row(peer="popularity", num_seeds=1),
    "markov": Row(peer="markov", num_seeds=1),
    "item-knn": Row(peer="item-knn", num_seeds=1),
    "vs-knn": Row(peer="vs-knn", num_seeds=1),
    "isgd": Row(peer="isgd"),
    "gru4rec": Row(peer="gru4rec"),
    "sasrec": Row(peer="sasrec"),
    "sasrec-frozen": Row(peer="sasrec-frozen"),
}
DATA = ("ml-100k", "kuairand-clicks", "ml-1m")
"""`ml-1m` is its users 1 to 2999; `kuairand-clicks` the clicks of KuaiRand-Pure, nothing else."""


def dataset_of(name: str) -> Dataset:
    """One of the data sets."""
    data, cache = os.environ.get("HEADWATER_DATA"), Path(".headwater/cache")
    folder = Path(data) if data else None
    if name != "kuairand-clicks":
        return load_dataset(name, cache=cache, folder=folder)
    whole = load_dataset("kuairand-pure", cache=cache, folder=folder)
    rows = np.flatnonzero(whole.actions & (1 << whole.action_names.index("click")))
    return replace(
        whole,
        name=name,
        user_ids=[whole.user_ids[row] for row in rows],
        item_ids=[whole.item_ids[row] for row in rows],
        ts_ms=whole.ts_ms[rows],
        actions=np.ones(len(rows), np.int64),
        values=whole.values[rows],
        action_names=("click",),
    )


def run(folder: Path, data: str, name: str, seed: int) -> None:
    """Run one row and keep its figures and ranks; they are there only when all of it was done."""
    row, dataset, began = ROWS[name], dataset_of(data), time.process_time()
    learn, ranks = replace(row.learn, seed=seed), file_of(folder, data, name, seed, "parquet")
    with file_of(folder, data, name, seed, "log").open("w", encoding="utf-8") as log:
        console = Console(file=log, width=160)
        if row.peer is None:
            figures = evaluate_prequential(
                dataset, row.model, learn, freeze_after=row.freeze_after, ranks=ranks, console=console
            )
        else:
            figures = evaluate_peer(dataset, row.peer, row.model, learn, ranks=ranks, console=console)
    figures["cpu_seconds"] = round(time.process_time() - began, 1)
    write_json(file_of(folder, data, name, seed, "json"), figures)


def file_of(folder: Path, data: str, name: str, seed: int, kind: str) -> Path:
    """A file of a run."""
    return folder / f"{data}.{re.sub('[^a-z0-9]+', '-', name)}.{seed}.{kind}"


def run_missing(folder: Path, data: list[str], names: list[str], seeds: list[int]) -> None:
    """Run, one after the other, what has no figures yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in data:
        for seed in seeds:
            for name in names:
                if seed >= ROWS[name].num_seeds or file_of(folder, each, name, seed, "json").exists():
                    continue
                print(f"{time.strftime('%H:%M:%S')} {each}: {name}, seed {seed}", flush=True)
                child = multiprocessing.get_context("spawn").Process(target=run, args=(folder, each, name, seed))
                child.start()
                child.join()
                if child.exitcode:
                    raise SystemExit(f"{each}: {name}, seed {seed} ended with {child.exitcode}")


def read_runs(folder: Path, data: str, name: str) -> dict[int, dict[str, Any]]:
    """Figures by seed of the runs that are done."""
    paths = {seed: file_of(folder, data, name, seed, "json") for seed in range(ROWS[name].num_seeds)}
    return {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.exists()}


def against_defaults(folder: Path, data: str, name: str, seeds: Sequence[int]) -> str:
    """The defaults less a row, and p, of the seed with the median difference; a row that lacks a seed has its last."""
    found = []
    for seed in read_runs(folder, data, DEFAULTS):
        a = file_of(folder, data, DEFAULTS, seed, "parquet")
        b = file_of(folder, data, name, min(seed, max(seeds)), "parquet")
        figures = evaluate_compare(a, b, window=10**9, console=Console(quiet=True))
        ndcg, p = figures["ndcg"], figures["mcnemar"]["p_value"]
        told = f"{ndcg['difference']:+.4f} [{ndcg['low']:+.4f}, {ndcg['high']:+.4f}] | {p:.1g}"
        found.append((ndcg["difference"], told))
    return sorted(found)[len(found) // 2][1] if found else "- | -"


def print_table(folder: Path) -> None:
    """Print a table for each data set, and draw HR@10 of twentieths of its stream."""
    for data in DATA:
        curves = {}
        print(f"\n| {data} | seeds | HR@10 | NDCG@10 | MRR | last quarter | AUC | learner - row, NDCG@10 | p | CPU s |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for name in ROWS:
            runs = read_runs(folder, data, name)
            if not runs:
                continue

            def of(figure: str, runs: dict[int, dict[str, Any]] = runs, digits: int = 4) -> str:
                values = [each[figure] for each in runs.values()]
                return f"{median(values):.{digits}f}" if None not in values else "-"

            held = "- | -" if name == DEFAULTS else against_defaults(folder, data, name, list(runs))
            cells = [of("hit_rate"), of("ndcg"), of("mrr"), of("hit_rate_last_quarter"), of("auc"), held]
            print(f"| {name} | {len(runs)} | {' | '.join(cells)} | {of('cpu_seconds', digits=0)} |", flush=True)
            if ROWS[name].peer or name in (DEFAULTS, "no replay", "frozen after 10 %"):
                rows = runs[min(runs)]["curve"]
                curves[name] = [(row["events"], row["recent_hit_rate"]) for row in rows if row["recent_hit_rate"]]
        if curves:
            path, title = folder / f"{data}.png", f"Prequential on {data}, seed 0"
            draw_curves(path, curves, title=title, x="events", y="HR@10 of a twentieth")


def main() -> None:
    """Run or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run")
    runs.add_argument("--data", choices=DATA, nargs="+", default=list(DATA))
    runs.add_argument("--rows", choices=list(ROWS), nargs="+", default=list(ROWS))
    runs.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    verbs.add_parser("table")
    options = parser.parse_args()
    if options.verb == "run":
        run_missing(options.folder, options.data, options.rows, options.seeds)
    else:
        print_table(options.folder)


if __name__ == "__main__":
    main()
