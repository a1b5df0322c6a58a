"""`headwater evaluate prequential`: what it prints, returns and writes."""

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from rich.console import Console

from deploy.evaluate import dataset_digest, evaluate_prequential, interactions
from deploy.evaluate_peer import evaluate_peer
from model.online import OnlineLearner
from model.settings import LearnSettings, ModelSettings
from streams.dataset import Dataset
from streams.simulator import Simulator
from streams.simulator_settings import read_settings

MODEL = ModelSettings(dim=16, window=32, num_layers=1)
LEARN = LearnSettings(batch_events=16, device="cpu")
NEEDED = {
    *("events_scored", "hit_rate", "ndcg", "mrr", "auc", "normalized_entropy", "hit_rate_last_quarter"),
    *("popularity_hit_rate", "popularity_hit_rate_last_quarter", "non_finite", "seconds", "fresh_items", "new_users"),
}


def dataset_factory(num_rows: int = 120) -> Dataset:
    rng = np.random.default_rng(0)
    items = rng.integers(10, size=num_rows)
    return Dataset(
        name="made",
        user_ids=[f"u{user}" for user in rng.integers(6, size=num_rows)],
        item_ids=[f"i{item}" for item in items],
        ts_ms=np.arange(num_rows, dtype=np.int64) * 1_000,
        actions=(1 << (items % 2)).astype(np.int64),
        values=np.full(num_rows, np.nan, np.float32),
        action_names=("buy", "view"),
    )


def evaluate(console: Console | None = None, **options: Any) -> dict[str, Any]:
    return evaluate_prequential(
        dataset_factory(), MODEL, LEARN, console=console or Console(file=io.StringIO()), **options
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, str]:
    """Figures, ranks file and output of one run."""
    out = io.StringIO()
    ranks = tmp_path_factory.mktemp("ranks") / "ranks.parquet"
    return evaluate(Console(file=out, width=200), ranks=ranks), ranks, out.getvalue()


def test_the_figures_are_all_there_and_are_json(whole: tuple[dict[str, Any], Path, str]) -> None:
    """Whoever reads the file looks for these names; NaN is no JSON."""
    figures, _, _ = whole
    assert figures.keys() >= NEEDED
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["data"] == "made"
    assert figures["freeze_after"] is None


def test_the_protocol_and_every_figure_are_printed(whole: tuple[dict[str, Any], Path, str]) -> None:
    """A figure without its protocol cannot be compared."""
    figures, _, out = whole
    assert out.startswith("Prequential protocol:")
    assert f"hit_rate {' ' * 25} {figures['hit_rate']}" in out or str(figures["hit_rate"]) in out
    assert out.count(" events: HR@10 ") >= 5


def test_ranks_are_written_by_event(whole: tuple[dict[str, Any], Path, str]) -> None:
    """Two models are compared event by event."""
    figures, path, _ = whole
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["event", "user_id", "item_id", "rank"]
    rows = dataset_factory()
    events: list[Any] = table.column("event").to_pylist()
    assert table.column("user_id").to_pylist() == [rows.user_ids[event] for event in events]
    assert table.column("item_id").to_pylist() == [rows.item_ids[event] for event in events]
    assert events == sorted(set(events))
    assert figures["events_scored"] <= len(events) <= len(rows)


def test_a_peer_s_figures_ranks_and_curve_are_those_of_a_run(
    whole: tuple[dict[str, Any], Path, str], tmp_path: Path
) -> None:
    """Whatever reads the figures of the one must read those of the other."""
    out = io.StringIO()
    figures = evaluate_peer(
        dataset_factory(),
        "markov",
        MODEL,
        LEARN,
        ranks=tmp_path / "r.parquet",
        plot=tmp_path / "p.png",
        console=Console(file=out, width=200),
    )
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures.keys() == {*whole[0], "peer"}
    assert (figures["peer"], figures["auc"], figures["warm_up_events"]) == ("markov", None, 12)
    for name in ("events", "events_scored", "popularity_hit_rate", "popularity_ndcg"):
        assert figures[name] == whole[0][name]
    ranked, own = (pyarrow.parquet.read_table(path) for path in (whole[1], tmp_path / "r.parquet"))
    assert own.drop_columns(["rank"]).equals(ranked.drop_columns(["rank"]), check_metadata=True)
    assert [row["events"] for row in figures["curve"]] == [12, 120]
    assert (tmp_path / "p.png").stat().st_size > 0
    assert out.getvalue().startswith("Prequential protocol:")


def test_a_frozen_run_learns_nothing_more(whole: tuple[dict[str, Any], Path, str]) -> None:
    """The comparison that shows learning would compare a run with itself."""
    frozen = evaluate(freeze_after=0.1)
    assert frozen["freeze_after"] == 0.1
    assert frozen["mrr"] != whole[0]["mrr"]
    with pytest.raises(ValueError, match="freeze_after"):
        evaluate(freeze_after=1.5)


def test_the_same_run_gives_the_same_figures(whole: tuple[dict[str, Any], Path, str]) -> None:
    """A figure that differs from run to run proves nothing."""
    again = evaluate()
    assert {**again, "seconds": 0} == {**whole[0], "seconds": 0}


def test_the_set_s_actions_are_the_model_s() -> None:
    """Bits of one set would be read with the names of another."""
    taken = list(interactions(dataset_factory(2)))
    assert [(one.user_id, one.item_id, one.ts_ms, one.actions) for one in taken] == [
        (user, item, place * 1_000, int(mask))
        for place, (user, item, mask) in enumerate(
            zip(dataset_factory(2).user_ids, dataset_factory(2).item_ids, dataset_factory(2).actions, strict=True)
        )
    ]


def test_in_a_terminal_there_is_a_bar() -> None:
    """The progress lines would scroll the screen away."""
    out = io.StringIO()
    evaluate(Console(file=out, width=120, force_terminal=True))
    assert "120/120" in out.getvalue()


def test_a_run_cut_short_ends_with_the_figures_and_ranks_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resuming would change what is published, or lose the ranks of before."""
    whole = evaluate(freeze_after=0.5, ranks=tmp_path / "whole.parquet", plot=tmp_path / "p.png")
    real, steps = OnlineLearner.step, list[int]()

    def step(learner: OnlineLearner, sequences: Any) -> Any:
        steps.append(learner.num_events)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return real(learner, sequences)

    monkeypatch.setattr(OnlineLearner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        evaluate(freeze_after=0.5, resume=tmp_path / "s", ranks=tmp_path / "cut.parquet")
    resumed = evaluate(freeze_after=0.5, resume=tmp_path / "s", ranks=tmp_path / "cut.parquet")
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}
    assert (tmp_path / "cut.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert steps[:6] == [0, 16, 32, 48, 48, 60]
    last = whole["curve"][-1]
    assert (last["events"], last["hit_rate"]) == (120, whole["hit_rate"])
    assert last["popularity_hit_rate"] == whole["popularity_hit_rate"]
    assert (tmp_path / "p.png").stat().st_size > 0


def test_the_curve_is_of_each_part_by_itself_and_drifts_have_their_rows(tmp_path: Path) -> None:
    """A fall after a drift would drown in what was before it."""
    stream = Simulator(read_settings("requests=100,users=20,items=60,drifts=1")).dataset()
    ranks = tmp_path / "ranks.parquet"
    figures = evaluate_prequential(stream, MODEL, LEARN, ranks=ranks, console=Console(file=io.StringIO()))
    assert figures["drifts"] == [400]
    table = pyarrow.parquet.read_table(ranks)
    rows, hits = table.column("event").to_numpy(), table.column("rank").to_numpy() <= 10
    ends = [row["events"] for row in figures["curve"]]
    assert (ends[1], len(ends), ends[-1]) == (80, 20, 800)
    for (first, end), row in zip(pairwise(ends[1:]), figures["curve"][2:], strict=True):
        assert row["recent_hit_rate"] == pytest.approx(hits[(rows >= first) & (rows < end)].mean(), abs=1e-6)


def test_what_was_shown_together_stays_together() -> None:
    """A slate's items would see each other's actions."""
    stream = Simulator(read_settings("requests=3,users=2,items=30,drifts=0")).dataset()
    assert [one.group for one in interactions(stream)] == [0] * 8 + [1] * 8 + [2] * 8
    apart = replace(stream, groups=None)
    assert {one.group for one in interactions(apart)} == {-1}
    assert dataset_digest(apart) != dataset_digest(stream)
