"""`headwater evaluate ...`: what is typed reaches what is run."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main

# These tests set sys.argv on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens:UserWarning")

Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Evaluate:
    """Runs `headwater evaluate` in an empty folder; its exit code."""
    monkeypatch.chdir(tmp_path)
    rows = [f"u{number % 7},i{number * 5 % 11},{number}000,{'like' if number % 3 else ''}" for number in range(80)]
    Path("events.csv").write_text("\n".join(["uid,item_id,ts_ms,action", *rows]) + "\n")

    def command(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["headwater", "evaluate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return command


def figures() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(Path("out.json").read_text())
    return read


FILE = ("--data", "events.csv", "--columns", "user_id=uid", "--json", "out.json")


def test_leave_one_out_takes_model_preset_and_seed(evaluate: Evaluate) -> None:
    """A table of ablations that were all the default."""
    flags = ("--model", "hstu-softmax", "--preset", "large", "--epochs", "1", "--seed", "3", "--plot", "p.png")
    assert evaluate("leave-one-out", *FILE, *flags) == 0
    settings = figures()["settings"]
    assert (settings["encoder"], settings["num_layers"], settings["num_heads"]) == ("hstu-softmax", 8, 2)
    assert (settings["seed"], settings["num_epochs"]) == (3, 1)
    assert figures()["events"] == 53
    assert Path("p.png").exists()


def test_stream_synthetic_takes_models_rates_and_seeds(evaluate: Evaluate) -> None:
    """Several values of one flag are typed one after the other."""
    sizes = ("--records", "20", "--ids", "40", "--categories", "5", "--resume", "runs", "--json", "out.json")
    plans = ("--models", "transformer", "hstu-no-rab", "--rates", "1e-3", "--seeds", "4", "5")
    assert evaluate("stream-synthetic", *sizes, *plans) == 0
    runs = [(run["model"], run["rate"], run["seed"]) for run in figures()["runs"]]
    assert sorted(runs) == [(name, 0.001, seed) for name in ("hstu-no-rab", "transformer") for seed in (4, 5)]
    assert len(list(Path("runs").iterdir())) == 4


def test_rank_and_prequential_take_files_and_settings(evaluate: Evaluate) -> None:
    """Data, columns, limit or the model's settings would be ignored."""
    small = ("--limit", "60", "--model.dim", "8", "--model.window", "32", "--learn.device", "cpu")
    assert evaluate("rank", *FILE, *small, "--actions", "like", "--resume", "s") == 0
    assert (figures()["events"], list(figures()["actions"])) == (60, ["like"])
    assert evaluate("prequential", *FILE, *small, "--resume", "t") == 0
    assert figures()["events"] == 60
    assert Path("s").exists()
    assert Path("t").exists()


def test_peers_are_run_and_compared_by_name(evaluate: Evaluate, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of peers that were all our model."""
    run = ("prequential", *FILE, "--limit", "60", "--peer")
    for peer, seed in (("markov", "0"), ("isgd", "0"), ("isgd", "1")):
        assert evaluate(*run, peer, "--learn.seed", seed, "--ranks", f"{peer}{seed}.parquet") == 0
        assert (figures()["peer"], figures()["events"]) == (peer, 60)
    assert Path("isgd0.parquet").read_bytes() != Path("isgd1.parquet").read_bytes()
    assert evaluate("compare", "markov0.parquet", "isgd1.parquet", "--window", "20", "--json", "out.json") == 0
    assert (figures()["a"], figures()["b"]) == ("markov0.parquet", "isgd1.parquet")
    assert {row["events"] for row in figures()["windows"]} == {20}
    for ignored in (("--resume", "s"), ("--users", "u.csv")):
        Path("u.csv").write_text("user_id,age\nu1,30\n")
        assert evaluate(*run, "markov", *ignored) == 2
        assert "must be left out with --peer" in capsys.readouterr().err


def test_a_model_that_breaks_down_is_one_line(evaluate: Evaluate, capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback tells nobody to lower the rate."""
    sizes = ("--records", "20", "--ids", "40", "--categories", "5", "--seeds", "0", "--models", "hstu-no-rab")
    assert evaluate("stream-synthetic", *sizes, "--rates", "1e38") == 2
    error = capsys.readouterr().err
    assert "lower the rate" in error
    assert "Traceback" not in error
