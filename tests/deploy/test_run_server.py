"""The serving process: what stops it from starting, and how it ends."""

import gc
import logging
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from deploy.broker import EmbeddedBroker, free_port
from deploy.client import ServerClient
from deploy.serve_settings import ServeSettings
from deploy.server import run_server
from storage.errors import SetupError
from storage.snapshot_settings import SnapshotSettings
from streams.http_access import HttpAccess
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings
from tests.certificates import own_certificate

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 60
CODE = """
import sys
from pathlib import Path
from deploy.client import ServerClient
from deploy.serve_settings import ServeSettings
from deploy.server import run_server
from storage.snapshot_settings import SnapshotSettings
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings

port, broker, folder, token, *tls = sys.argv[1:]
kafka = KafkaSettings(bootstrap_servers=(broker,))
certificate, key = map(Path, tls) if tls else (None, None)
serve = ServeSettings(port=int(port), token=token, tls_certificate=certificate, tls_key=key)
sys.exit(run_server(serve, kafka, TopicSettings(), SnapshotSettings(url=folder)))
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
    with (
        EmbeddedBroker(free_port(), tmp_path / "broker.log") as broker,
        server_process(tmp_path, f"http://127.0.0.1:{port}", broker, "") as process,
    ):
        process.send_signal(number)
        assert process.wait(WAIT_SECONDS) == 0


@contextmanager
def server_process(
    folder: Path, url: str, broker: EmbeddedBroker, *options: str, verify: ssl.SSLContext | bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers that it is not ready yet."""
    port, snapshots, said = url.rpartition(":")[2], str(folder / "snapshots"), folder / "server.log"
    with said.open("wb") as log:
        arguments = [sys.executable, "-c", CODE, port, broker.address, snapshots, *options]
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not _answers(url, verify):
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(url: str, verify: ssl.SSLContext | bool) -> bool:
    try:
        return httpx.get(f"{url}/healthz", verify=verify).status_code == httpx.codes.SERVICE_UNAVAILABLE
    except httpx.TransportError:
        return False


def test_tls_and_a_token_keep_others_out(tmp_path: Path) -> None:
    """Whoever reaches the port would read what users did, and whoever listens on the line, too."""
    tls = [str(file) for file in own_certificate(tmp_path)]
    port = free_port()
    url, trusted = f"https://127.0.0.1:{port}", HttpAccess(certificate=Path(tls[0])).trust()
    with (
        EmbeddedBroker(free_port(), tmp_path / "broker.log") as broker,
        server_process(tmp_path, url, broker, "secret", *tls, verify=trusted),
    ):
        assert httpx.get(f"{url}/metrics", verify=trusted).status_code == httpx.codes.UNAUTHORIZED
        chain = tmp_path / "chain.pem"
        with (
            ServerClient(url, HttpAccess(token="secret", certificate=chain)) as mine,
            ServerClient(url, HttpAccess(token="Secret", certificate=chain)) as other,
            ServerClient(url, HttpAccess(token="secret")) as trusting,
        ):
            with pytest.raises(SetupError, match=r"answered 503: .*no snapshot"):
                mine.recommend("ada", 10)
            with pytest.raises(SetupError, match=r"answered 401: .*serve\.token"):
                other.recommend("ada", 10)
            with pytest.raises(SetupError, match="certificate"):
                trusting.recommend("ada", 10)


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
        ({"min_version_seconds": 0.0}, "min_version_seconds must be > 0, got 0.0"),
        ({"max_requests": 0}, "max_requests must be >= 1, got 0"),
        ({"token": "a b"}, "token must be ASCII without spaces"),
        ({"tls_key": Path("key.pem")}, "must be both set or both left out"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServeSettings(**changes)  # type: ignore[arg-type]  # wrong values are what is tested
