"""The verbs of what flows, without brokers: what they pass on and what they print."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.cli import app
from streams.dead_letter_replay import ReplayedLetter
from streams.producer import DeliveryCounts

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a verb with its defaults in an empty folder; gives its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)

    def command(*arguments: str) -> SimpleNamespace:
        code = app(list(arguments), exit_on_error=False, result_action="return_value")
        return SimpleNamespace(code=code, out=capsys.readouterr().out)

    return command


def letter(result: Any, message: str = "") -> ReplayedLetter:
    return ReplayedLetter(topic="events", partition=1, offset=7, cause="unknown_action", result=result, message=message)


@pytest.mark.parametrize(("outcomes", "code"), [([], 0), (["sent"], 0), (["sent", "refused"], 1), (["incomplete"], 1)])
def test_a_dead_letter_that_cannot_be_sent_is_an_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcomes: list[str], code: int
) -> None:
    """A script takes what is still refused for sent."""
    given: list[Any] = []

    def send(kafka: Any, topics: Any, actions: Any, chosen: Any, *, dry_run: bool) -> list[ReplayedLetter]:
        given.append((actions, chosen.causes, chosen.partition, chosen.offset, chosen.limit, dry_run))
        return [letter(outcome, f"why [{outcome}]") for outcome in outcomes]

    monkeypatch.setattr("streams.dead_letter_replay.replay_dead_letters", send)
    flags = ("--cause", "unknown_action", "--cause", "future_time", "--partition", "1", "--offset", "7", "--limit", "9")
    ended = run("dlq", "replay", *flags, "--dry-run", "--json", "out.json", "--store.actions", "teleport")
    assert given == [(("teleport",), ("unknown_action", "future_time"), 1, 7, 9, True)]
    assert ended.code == code
    assert f"{outcomes.count('sent')} of {len(outcomes)} would be sent" in ended.out
    assert all(f"why [{outcome}]" in ended.out for outcome in outcomes)
    assert [each["result"] for each in json.loads((tmp_path / "out.json").read_text())] == outcomes


def test_an_import_says_what_was_delivered(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("user_id,item_id,ts_ms\n" + "".join(f"u,i,{n}\n" for n in range(5)))
    given: list[Any] = []

    def send(dataset: Any, kafka: Any, topics: Any, encoding: str) -> DeliveryCounts:
        given.append((len(dataset), encoding))
        return DeliveryCounts(sent=8, delivered=8, failed=0)

    monkeypatch.setattr("streams.importing.import_dataset", send)
    ended = run("import", "--data", "mine.csv", "--limit", "4", "--encoding", "msgpack", "--json", "out.json")
    assert given == [(4, "msgpack")]
    assert ended.code == 0
    assert "8 events delivered in " in ended.out
    assert json.loads((tmp_path / "out.json").read_text())["delivered"] == 8
