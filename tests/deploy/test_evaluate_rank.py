"""`headwater evaluate rank`: what it prints, returns and writes, and that it goes on."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from deploy.evaluate_rank import evaluate_rank
from model.ranking_run import RankingRun
from model.settings import LearnSettings, ModelSettings
from streams.dataset import Dataset

MODEL = ModelSettings(dim=16, window=32, num_layers=1)
LEARN = LearnSettings(batch_events=16, device="cpu", replay_events=30)


def dataset_factory(num_rows: int = 400) -> Dataset:
    """Exposures that are clicked by item, bought never."""
    draws = np.random.default_rng(0)
    items = draws.integers(10, size=num_rows)
    return Dataset(
        name="made",
        user_ids=[f"u{user}" for user in draws.integers(6, size=num_rows)],
        item_ids=[f"i{item}" for item in items],
        ts_ms=np.arange(num_rows, dtype=np.int64) * 1_000,
        actions=(draws.random(num_rows) < items / 9).astype(np.int64),
        values=np.full(num_rows, np.nan, np.float32),
        action_names=("click", "buy"),
    )


def evaluate(out: io.StringIO | None = None, **options: Any) -> dict[str, Any]:
    console = Console(file=out or io.StringIO(), width=400)
    return evaluate_rank(dataset_factory(), MODEL, LEARN, console=console, **options)


def test_every_action_stands_beside_its_bar(tmp_path: Path) -> None:
    """An AUC says nothing without that of two counters."""
    out = io.StringIO()
    figures = evaluate(out, plot=tmp_path / "p.png")
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    click, buy = figures["actions"]["click"], figures["actions"]["buy"]
    assert (click["events"], buy["positives"]) == (360, 0)
    assert click["bar"]["auc"] > 0.7
    assert click["model"]["auc"] > 0.6
    assert click["both"]["auc"] > 0.7
    assert click["din"] not in (click["model"], click["bar"])
    assert click["both"] != click["bar"]
    assert 0 < click["model"]["auc_half_width"] < 0.1
    assert buy["model"] == {"auc": None, "auc_half_width": None, "ne": None}
    assert [part["events"] for part in click["curve"]] == list(range(20, 401, 20))
    assert out.getvalue().startswith("Ranking protocol: ")
    assert f"click ({click['positives']} of 360): model AUC {click['model']['auc']:.4f}" in out.getvalue()
    assert "one label is absent" in out.getvalue()
    assert (tmp_path / "p.png").stat().st_size > 0
    assert list(evaluate(actions=("click",))["actions"]) == ["click"]


def test_a_run_cut_short_ends_with_the_figures_of_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resuming would change what is published."""
    whole, real, fed = evaluate(), RankingRun.feed, list[int]()

    def feed(run: RankingRun, events: Any) -> None:
        if len(fed) == 7:
            fed.append(0)
            raise KeyboardInterrupt
        fed.append(len(events))
        real(run, events)

    monkeypatch.setattr(RankingRun, "feed", feed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(resume=tmp_path / "s")
    out = io.StringIO()
    assert evaluate(out, resume=tmp_path / "s") == whole
    assert "going on after 140 events" in out.getvalue()
    assert sum(fed) == 400


def test_an_action_that_the_data_set_lacks_is_refused() -> None:
    """A typo would end in a table without it."""
    with pytest.raises(ValueError, match="actions must be among click, buy, got clik"):
        evaluate(actions=("clik",))
    with pytest.raises(ValueError, match="must have >= 20 events, got 19"):
        evaluate_rank(dataset_factory(19), MODEL, LEARN)


def test_a_predicted_value_stands_beside_that_of_its_item() -> None:
    """Seconds of play that are told are held against what the item's earlier ones say."""
    rows, out = dataset_factory(), io.StringIO()
    values = np.where(rows.actions != 0, np.array([len(item) for item in rows.item_ids]), np.nan).astype(np.float32)
    model, console = dataclasses.replace(MODEL, predict_values=True), Console(file=out, width=400)
    figures = evaluate_rank(dataclasses.replace(rows, values=values), model, LEARN, console=console)["value"]
    assert figures["events"] == int(np.isfinite(values[40:]).sum())
    assert 0 < figures["model"] < 1
    assert figures["bar"] == 0
    assert f"mean absolute error model {figures['model']}, bar 0.0" in out.getvalue()
    assert "value" not in evaluate()
