"""`headwater evaluate stream-synthetic`: what it prints, returns and writes, and that it goes on."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.evaluate_stream import evaluate_stream, plan_name
from deploy.stream_table import best_runs, summarize
from model.stream_run import StreamRun, StreamSettings
from model.urn_stream import UrnSettings

PLAN = StreamSettings(
    dim=8,
    num_layers=1,
    batch_records=16,
    num_negatives=8,
    stream=UrnSettings(num_records=200, num_ids=100, num_categories=10, record_length=8),
)
PLANS = [replace(PLAN, rate=rate, seed=seed) for rate in (0.001, 0.01) for seed in (0, 1)]


def evaluate(plans: list[StreamSettings], out: io.StringIO | None = None, **options: Any) -> dict[str, Any]:
    return evaluate_stream(plans, console=Console(file=out or io.StringIO(), width=400), **options)


def test_each_model_is_shown_at_its_best_rate_with_an_interval(tmp_path: Path) -> None:
    """A rate that suits one model and not the other decides the comparison."""
    out = io.StringIO()
    figures = evaluate([*PLANS, replace(PLAN, encoder="transformer")], out, plot=tmp_path / "p.png")
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    pointwise, transformer = figures["models"]
    assert (pointwise["model"], pointwise["rate"], pointwise["seeds"]) == ("hstu-no-rab", 0.01, [0, 1])
    own = [run["hr@10"] for run in figures["runs"][2:4]]
    assert pointwise["hr@10"] == pytest.approx(sum(own) / 2, abs=1e-6)
    # Of two values the half width is 12.706 times half their distance.
    assert pointwise["hr@10_half_width"] == pytest.approx(12.706 * abs(own[0] - own[1]) / 2, abs=1e-5)
    assert transformer["hr@10_half_width"] is None
    assert [len(run["losses"]) for run in figures["runs"]] == [18] * 5
    assert out.getvalue().startswith("Synthetic stream protocol")
    assert "hstu-no-rab at rate 0.01, seeds [0, 1]: hr@10 " in out.getvalue()
    assert (tmp_path / "p.png").stat().st_size > 0


def test_the_rate_is_chosen_without_the_test() -> None:
    """A choice by the test's figure is a better figure than the model has."""
    runs = [
        {
            "model": "m",
            "rate": 0.1,
            "seed": 0,
            "late_loss": 2.0,
            "hr@10": 0.1,
            "hr@50": 0,
            "percent@10": 0,
            "percent@50": 0,
        },
        {
            "model": "m",
            "rate": 0.2,
            "seed": 0,
            "late_loss": 3.0,
            "hr@10": 0.9,
            "hr@50": 0,
            "percent@10": 0,
            "percent@50": 0,
        },
    ]
    assert summarize(best_runs(runs, "m"))["rate"] == 0.1


def test_a_command_cut_short_ends_with_the_figures_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of runs would begin anew, or go on otherwise."""
    whole = evaluate(PLANS[:2])
    real, done = StreamRun.learn_part, list[int]()
    until = [25]

    def learn_part(run: StreamRun, number: int) -> Any:
        if len(done) == until[0]:
            raise KeyboardInterrupt
        done.append(number)
        return real(run, number)

    monkeypatch.setattr(StreamRun, "learn_part", learn_part)
    with pytest.raises(KeyboardInterrupt):
        evaluate(PLANS[:2], resume=tmp_path / "runs")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        f"{plan_name(plan)}.state" for plan in PLANS[:2]
    ]
    until[0] = 36
    for _ in range(2):
        assert evaluate(PLANS[:2], resume=tmp_path / "runs") == whole
    assert done == [*range(18), *range(18)]


def test_two_equal_plans_are_refused() -> None:
    """They would share one state file."""
    with pytest.raises(ValueError, match="plans must differ"):
        evaluate([PLAN, PLAN])


def test_in_a_terminal_there_is_a_bar() -> None:
    """Minutes without a sign of life."""
    out = io.StringIO()
    evaluate_stream([PLAN], console=Console(file=out, width=120, force_terminal=True))
    assert "part 18 of 18" in out.getvalue()
