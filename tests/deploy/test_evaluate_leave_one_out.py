"""`headwater evaluate leave-one-out`: what it prints, returns and writes, and that a killed run goes on."""

import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors import safe_open

from deploy.evaluate_leave_one_out import evaluate_leave_one_out
from deploy.settings import environment
from model.leave_one_out import LeaveOneOutSettings
from storage.errors import SetupError
from tests.model.histories import cycle_corpus

SETTINGS = LeaveOneOutSettings(
    dim=16, max_history=8, batch_users=16, num_negatives=16, rate=0.01, dropout=0.1, num_epochs=4
)


def evaluate(settings: LeaveOneOutSettings = SETTINGS, out: Console | None = None, **options: Any) -> dict[str, Any]:
    console = out or Console(file=io.StringIO())
    return evaluate_leave_one_out(cycle_corpus(), settings, evaluate_every=3, device="cpu", console=console, **options)


def test_figures_come_every_few_epochs_and_at_the_end(tmp_path: Path) -> None:
    """The published figure is that of the last epoch; the best of many is chosen on the test."""
    out = io.StringIO()
    figures = evaluate(out=Console(file=out, width=400), plot=tmp_path / "curve.png")
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert [row["epoch"] for row in figures["curve"] if "hr@10" in row] == [3, 4]
    assert figures["last"] == figures["curve"][-1]
    assert figures["best"]["hr@10"] == max(row.get("hr@10", 0) for row in figures["curve"])
    assert (figures["users"], figures["items"], figures["settings"]["encoder"]) == (40, 60, "hstu")
    assert out.getvalue().startswith("Leave-one-out protocol:")
    assert out.getvalue().count(": loss ") == 4
    assert "s an epoch (median)" in out.getvalue()
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_a_run_in_parts_has_the_figures_of_a_whole_one(tmp_path: Path) -> None:
    """Resuming would change what is published."""
    whole = evaluate()
    part = evaluate(replace(SETTINGS, num_epochs=2), resume=tmp_path / "s")
    assert part["last"]["epoch"] == 2
    out = io.StringIO()
    resumed = evaluate(resume=tmp_path / "s", out=Console(file=out))
    assert "going on after epoch 2" in out.getvalue()
    assert resumed["last"] == whole["last"]
    assert resumed["curve"][2:] == whole["curve"][2:]


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    """Half a run at one rate and half at another has a figure that nobody can repeat."""
    evaluate(resume=tmp_path / "s")
    with pytest.raises(SetupError, match=r"another run: rate 0\.01 there and 0\.5 here"):
        evaluate(replace(SETTINGS, rate=0.5), resume=tmp_path / "s")


def test_a_state_beyond_the_last_epoch_is_refused_and_one_at_it_is_shown(tmp_path: Path) -> None:
    """Figures of 4 epochs would be given out as those of 2."""
    whole = evaluate(resume=tmp_path / "s")
    assert evaluate(resume=tmp_path / "s") == whole
    with pytest.raises(ValueError, match=r"epochs must be >= 4, as many as .* holds already, got 2"):
        evaluate(replace(SETTINGS, num_epochs=2), resume=tmp_path / "s")


def test_in_a_terminal_there_is_a_bar() -> None:
    """Minutes without a sign of life."""
    out = io.StringIO()
    evaluate(out=Console(file=out, width=120, force_terminal=True))
    assert "100%" in out.getvalue()


def test_an_epoch_s_interval_below_one_is_refused() -> None:
    """A division by zero after the first epoch."""
    with pytest.raises(ValueError, match="evaluate_every must be >= 1"):
        evaluate_leave_one_out(cycle_corpus(), SETTINGS, evaluate_every=0)


def command(folder: Path, name: str) -> list[str]:
    options = {"--epochs": "6", "--evaluate-every": "2", "--device": "cpu", "--model": "hstu"}
    files = {"--data": f"{folder}/circle.csv", "--resume": f"{folder}/{name}.state", "--json": f"{folder}/{name}.json"}
    flags = [part for pair in (options | files).items() for part in pair]
    return [sys.executable, "-m", "deploy.cli", "evaluate", "leave-one-out", *flags]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    """A night's run that dies at three must go on, and nobody may see it in the figures."""
    corpus = cycle_corpus(num_users=300)
    users = [user for user, length in enumerate(corpus.lengths) for _ in range(length)]
    rows = zip(users, corpus.items_T, corpus.seconds_T * 1000, strict=True)
    text = "user_id,item_id,ts_ms\n" + "".join(f"{user},{item},{ts_ms}\n" for user, item, ts_ms in rows)
    (tmp_path / "circle.csv").write_text(text)
    environ = dict(environment())
    with subprocess.Popen(command(tmp_path, "killed"), env=environ, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed.state").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    done = len(rows_of(tmp_path / "killed.state"))
    assert 1 <= done < 6
    assert not (tmp_path / "killed.json").exists()
    for name in ("killed", "whole"):
        subprocess.run(command(tmp_path, name), env=environ, check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def rows_of(path: Path) -> list[Any]:
    with safe_open(path, framework="numpy") as file:
        rows: list[Any] = json.loads(file.metadata()["rows"])
    return rows
