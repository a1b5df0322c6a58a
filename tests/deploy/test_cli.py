"""The command line: help everywhere, and one clear line with exit code 2 for what cannot work."""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]  # kafka-python ships no types

from deploy.broker import EmbeddedBroker, free_port
from deploy.cli import app, main
from storage.errors import SnapshotError
from storage.sequence_store import SequenceStore
from storage.store_settings import StoreSettings
from streams.topics import TopicDescription

# These tests set sys.argv on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens:UserWarning")

Run = Callable[..., SimpleNamespace]
COMMANDS = [
    *(
        ["demo"],
        ["broker"],
        ["topics"],
        ["topics", "create"],
        ["worker"],
        ["ingress"],
        ["learn"],
        ["serve"],
        ["replay"],
    ),
    *(
        ["recommend"],
        ["click"],
        ["verify"],
        ["dlq"],
        ["dlq", "ls"],
        ["dlq", "replay"],
        ["forget"],
        ["forget", "item"],
        ["forget", "user"],
        ["snapshots"],
        *(["snapshots", verb] for verb in ("ls", "verify", "rollback", "release", "gc", "diff")),
        ["import"],
        ["schema"],
        ["evaluate"],
    ),
    *(["evaluate", "prequential"], ["bench"], ["bench", "streams"]),
    *(["evaluate", "leave-one-out"], ["evaluate", "stream-synthetic"], ["evaluate", "rank"]),
    *(["bench", "store"], ["bench", "restore"], ["bench", "memory"]),
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs a command in this process, in an empty folder and a clean environment; gives code, out and err."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("HEADWATER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)

    def command(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["headwater", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code, out=out, err=err)

    yield command
    app.config = ()


def assert_refused(ended: SimpleNamespace, *words: str) -> None:
    """One line on stderr, exit code 2."""
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err + ended.out
    for word in words:
        assert word in ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(run: Run, command: list[str]) -> None:
    """--help is where everybody starts."""
    ended = run(*command, "--help")
    assert ended.code == 0
    usage, blank, sentence = ended.out.splitlines()[:3]
    assert usage.startswith(f"Usage: headwater {' '.join(command)} ")
    assert not blank
    assert len(sentence.split()) >= 3


def test_no_command_lacks_a_help_test() -> None:
    """A command that is added must explain itself, too."""
    names = {name for name in app if not name.startswith("-")}
    assert names == {command[0] for command in COMMANDS}


def test_the_first_page_names_every_command(run: Run) -> None:
    """A command that is not listed is not found."""
    ended = run("--help")
    for command in COMMANDS:
        assert command[0] in ended.out
    assert "HEADWATER_" in ended.out
    assert run().code == 0


def test_the_schema_is_json(run: Run) -> None:
    """Producers in other languages are generated from it."""
    ended = run("schema")
    assert ended.code == 0
    assert {"Impression", "Action", "UserUpdate", "Forget", "Tick"} <= json.loads(ended.out)["$defs"].keys()
    ended = run("schema", "--format", "asyncapi", "--topics.prefix", "x-")
    assert json.loads(ended.out)["channels"]["events"]["address"] == "x-events"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("learn", "--model.dim", "7"), ("dim must be", "got 7")),
        (("worker", "--kafka.bootstrap-servers", "nowhere"), ("host:port", "'nowhere'")),
        (("topics", "create", "--topics.num-partitions", "0"), ("num_partitions must be 1 to 10000, got 0",)),
        (("replay", "--data", "none.csv"), ("'none.csv' is no file and no known set",)),
        (("evaluate", "prequential", "--data", "none.parquet"), ("none.parquet",)),
        (("demo", "--data", "none.csv"), ("none.csv",)),
        (("replay", "--data", "x", "--columns", "user_id"), ("columns must be name=column,..., got 'user_id'",)),
        (("dlq", "replay", "--offset", "5"), ("offset 5 needs a partition",)),
        (("ingress",), ("set topics.impressions, topics.actions or both",)),
        (("ingress", "--topics.actions", "events"), ("actions must be a topic of others, got 'events'",)),
        (("--config", "none.toml", "schema"), ("cannot read settings from none.toml",)),
    ],
)
def test_wrong_values_are_one_line(run: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """A traceback says nothing to who typed the value."""
    assert_refused(run(*arguments), *words)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("learn", "--modle.dim", "8"), "--model.dim"), (("lern",), "learn"), (("learn", "--learn.seed", "x"), "seed")],
)
def test_what_the_parser_refuses_names_the_flag(run: Run, arguments: tuple[str, ...], word: str) -> None:
    """A typo must not start a process with defaults."""
    ended = run(*arguments)
    assert ended.code == 2
    assert word in ended.err
    assert "Traceback" not in ended.err


def test_unknown_settings_are_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default would stay in place."""
    (tmp_path / "headwater.toml").write_text("[kafka]\ngruop = 'x'\n")
    assert_refused(run("schema"), "unknown setting in headwater.toml: kafka.gruop; did you mean kafka.group?")
    (tmp_path / "headwater.toml").unlink()
    monkeypatch.setenv("HEADWATER_KAFKA_GROPU", "x")
    assert_refused(run("schema"), "HEADWATER_KAFKA_GROPU; did you mean HEADWATER_KAFKA_GROUP?")


def test_a_missing_column_is_one_line(run: Run, tmp_path: Path) -> None:
    """The newcomer's own file rarely has our names."""
    (tmp_path / "mine.csv").write_text("uid,item_id,ts_ms\nu,i,1\n")
    for command in (("replay",), ("demo",), ("evaluate", "prequential")):
        ended = run(*command, "--data", "mine.csv")
        assert_refused(ended, "mine.csv lacks the column(s) user_id", "--columns user_id=YOUR_NAME")


def test_the_environment_s_data_folder_reaches_the_data_sets(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEADWATER_DATA would be taken for the data set itself."""
    monkeypatch.setenv("HEADWATER_DATA", str(tmp_path))
    ended = run("evaluate", "prequential", "--data", "ml-1m")
    assert_refused(ended, f"a folder ml-1m under the setting data ({tmp_path})")


def test_an_evaluation_writes_its_figures(run: Run, tmp_path: Path) -> None:
    """The whole command, from a file to JSON."""
    rows = "".join(f"u{row % 3},i{row % 5},{row}\n" for row in range(60))
    (tmp_path / "mine.csv").write_text("uid,item_id,ts_ms\n" + rows)
    ended = run(
        *("evaluate", "prequential", "--data", "mine.csv", "--columns", "user_id=uid", "--limit", "50"),
        *("--json", "out.json", "--ranks", "ranks.parquet"),
        *("--model.dim", "16", "--model.window", "32", "--model.num-layers", "1", "--learn.device", "cpu"),
    )
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "out.json").read_text())["data"] == "mine.csv"
    assert (tmp_path / "ranks.parquet").is_file()


UNREACHABLE = (
    ("topics", "create"),
    ("worker",),
    ("learn",),
    ("dlq", "ls"),
    ("dlq", "replay"),
    ("ingress", "--topics.actions", "theirs"),
    ("import", "--data", "mine.csv"),
    ("replay", "--data", "mine.csv", "--rate", "5"),
)


@pytest.mark.parametrize("command", UNREACHABLE, ids=lambda command: command[0])
def test_an_unreachable_broker_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """The client library would log and retry for minutes, then raise."""
    (tmp_path / "mine.csv").write_text("user_id,item_id,ts_ms\nu,i,1\n")

    def refuse(*_: object, **options: Any) -> None:
        raise KafkaTimeoutError(f"{options.get('bootstrap_timeout_ms', options.get('connect_seconds'))}")

    monkeypatch.setattr("streams.topics.KafkaAdminClient", refuse)
    monkeypatch.setattr("streams.delivery.EventProducer", refuse)
    away = f"127.0.0.1:{free_port()}"
    flags = ("--kafka.bootstrap-servers", away, "--kafka.connect-seconds", "0.5")
    assert_refused(run(*command, *flags), f"no answer from Kafka at {away}", "kafka.bootstrap")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_port_in_use_is_one_line(run: Run, taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second server on a machine is the usual case."""
    assert_refused(run("broker", "--port", str(taken_port)), f"port {taken_port}", "in use")
    described = TopicDescription(topic_id="t1", num_partitions=1)
    monkeypatch.setattr("streams.topics.describe_topic", lambda kafka, topic: described)
    ended = run("learn", "--learner.metrics-port", str(taken_port))
    assert_refused(ended, f"learner.metrics_port: port {taken_port}", "in use")
    assert_refused(run("serve", "--serve.port", str(taken_port)), f"{taken_port}", "in use")


def test_a_server_that_is_away_is_one_line(run: Run) -> None:
    """The first `headwater recommend` is often typed before the server is up."""
    server = f"http://127.0.0.1:{free_port()}"
    assert_refused(run("recommend", "17", "--server", server), f"no answer from {server}", "headwater serve")
    assert_refused(run("click", "17", "50", "--server", server), f"no answer from {server}", "headwater serve")


def test_what_fails_at_run_time_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of another format would end the learner with a traceback, and be tried again."""

    def fail(*_: object) -> int:
        raise SnapshotError("latest has format_version 2, this version reads 1: train anew")

    monkeypatch.setattr("streams.learner_process.run_learner", fail)
    assert_refused(run("learn"), "format_version 2, this version reads 1")


def test_ctrl_c_is_no_error_page(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C would print a traceback."""

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("streams.learner_process.run_learner", interrupt)
    ended = run("learn")
    assert (ended.code, ended.err) == (130, "")


@pytest.mark.parametrize(("exact", "code"), [(True, 0), (False, 1)])
def test_verify_ends_with_1_where_anything_was_found(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exact: bool, code: int
) -> None:
    """A script would go on after a loss."""
    from streams.verify import VerifyReport

    report = VerifyReport(users=3, missing=0 if exact else 2)
    monkeypatch.setattr("deploy.verify.verify_all", lambda *_: report)
    ended = run("verify", "--json", "report.json")
    assert ended.code == code
    assert json.loads((tmp_path / "report.json").read_text())["missing"] == report.missing
    assert "missing" in ended.out


def test_a_click_sends_what_was_typed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """User and item that are swapped teach nonsense."""
    sent: list[Any] = []

    def send(client: Any, kafka: Any, topics: Any, *rest: Any) -> Any:
        sent.append((client.url, kafka.group, topics.prefix, *rest))
        return SimpleNamespace(events=[SimpleNamespace(item_id="50", title="Star Wars")])

    monkeypatch.setattr("deploy.client.send_action", send)
    server = ("--server", "http://s:1")
    ended = run("click", "17", "50", "--action", "rate", "--value", "4", *server, "--topics.prefix", "x.")
    assert sent == [("http://s:1", "headwater", "x.", "17", "50", "rate", 4.0)]
    assert "user 17: rate 50 Star Wars" in ended.out
    assert ended.code == 0


def test_a_real_process_ends_with_2_and_one_line(tmp_path: Path) -> None:
    """What holds in this process must hold for the command that is installed."""
    (tmp_path / "model.py").write_text("raise SystemExit('the wrong model was imported')\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    with EmbeddedBroker(free_port(), tmp_path / "log") as broker:
        folder = tmp_path / "state"
        make_state(folder)
        flags = ["--kafka.bootstrap-servers", broker.address, "--store.folder", str(folder)]
        create = run_headwater(["topics", "create", *flags[:2]], tmp_path, environ)
        assert (create.returncode, create.stderr) == (0, "")
        away = f"127.0.0.1:{free_port()}"
        unreachable = run_headwater(
            ["topics", "create", "--kafka.bootstrap-servers", away, "--kafka.connect-seconds", "0.5"], tmp_path, environ
        )
        ended = run_headwater(
            ["worker", *flags, "--store.cap", "4000", "--worker.web-port", str(free_port())], tmp_path, environ
        )
    assert unreachable.returncode == 2, unreachable.stderr
    assert "Traceback" not in unreachable.stderr
    assert f"headwater: no answer from Kafka at {away}" in unreachable.stderr
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("headwater: ")]
    assert "cap" in line
    assert "4000" in line


def make_state(folder: Path) -> None:
    """State of every partition, made with the default settings."""
    for partition in range(4):
        settings = StoreSettings(folder=folder)
        SequenceStore.open(settings, topic="events", partition=partition, num_partitions=4, topic_id="t1").close()


def run_headwater(arguments: list[str], folder: Path, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "deploy.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60)


def test_the_command_line_loads_no_torch_and_no_compiler() -> None:
    """Every command would start seconds later and hold 180 MB for libraries that it never calls."""
    code = "import sys, deploy.cli; assert not {'torch', 'matplotlib', 'triton', 'numba'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
