"""The serving process: what stops it from starting, and how it ends."""

import gc
import logging
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from deploy.broker import EmbeddedBroker, free_port
from deploy.serve_settings import ServeSettings
from deploy.server import run_server
from storage.errors import SetupError
from storage.snapshot_settings import SnapshotSettings
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 60
CODE = """
import sys
from deploy.serve_settings import ServeSettings
from deploy.server import run_server
from storage.snapshot_settings import SnapshotSettings
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings

port, broker, folder = sys.argv[1:]
kafka = KafkaSettings(bootstrap_servers=(broker,))
sys.exit(run_server(ServeSettings(port=int(port)), kafka, TopicSettings(), SnapshotSettings(url=folder)))
"""


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        serve = ServeSettings(port=taken.getsockname()[1])
        with pytest.raises(SetupError, match=r"serve\.port: port \d+ on 127\.0\.0\.1 is in use"):
            run_server(serve, KafkaSettings(), TopicSettings(), SnapshotSettings(url=str(tmp_path)))


# kafka-python leaves the sockets of refused connections to the garbage collector; its log records hold them too.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_an_unreachable_broker_is_said_before_anything_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "kafka")
    kafka = KafkaSettings(bootstrap_servers=("127.0.0.1:1",), connect_seconds=0.2)
    with pytest.raises(SetupError, match=r"no answer from Kafka at 127\.0\.0\.1:1"):
        run_server(ServeSettings(port=free_port()), kafka, TopicSettings(), SnapshotSettings(url=str(tmp_path)))
    gc.collect()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_cleanly_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    """A supervisor takes any other exit for a crash and starts the server again."""
    port = free_port()
    with EmbeddedBroker(free_port(), tmp_path / "broker.log") as broker:
        arguments = [sys.executable, "-c", CODE, str(port), broker.address, str(tmp_path / "snapshots")]
        with (tmp_path / "server.log").open("wb") as log:
            process = subprocess.Popen(arguments, cwd=ROOT, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while not _answers(port):
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.05)
            process.send_signal(number)
            assert process.wait(WAIT_SECONDS) == 0
        finally:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == httpx.codes.SERVICE_UNAVAILABLE
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": 0}, "port must be 1 to 65535, got 0"),
        ({"worker_urls": ()}, "at least one worker"),
        ({"worker_urls": ("127.0.0.1:6066",)}, "must be like http://127.0.0.1:6066, got '127.0.0.1:6066'"),
        ({"poll_seconds": 0.0}, "poll_seconds must be > 0, got 0.0"),
        ({"sequence_timeout_seconds": float("nan")}, "sequence_timeout_seconds must be > 0, got nan"),
        ({"alias": "../x"}, "alias must be 1 to 64 of a-z, 0-9, - and _ and begin with a letter, got '../x'"),
        ({"num_threads": 0}, "num_threads must be >= 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServeSettings(**changes)  # type: ignore[arg-type]  # wrong values are what is tested
