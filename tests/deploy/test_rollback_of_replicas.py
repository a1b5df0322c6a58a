"""One command rolls every server back while the learner goes on publishing."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.broker import EmbeddedBroker, free_port
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.deploy.models import publish

ROOT = Path(__file__).parents[2]
START_SECONDS = 90
FOLLOW_SECONDS = 5
"""How long a server may take to follow a command."""
PUBLISH_SECONDS = 0.5

Health = dict[str, Any]


class Publisher:
    """Publishes a version every half second until it is stopped."""

    def __init__(self, folder: Path) -> None:
        self.store = SnapshotStore(SnapshotSettings(url=str(folder), keep=2))
        self.version = 0
        self.failure: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.publish()
        self.publish()
        self.publish()

    def __enter__(self) -> "Publisher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def publish(self) -> None:
        publish(self.store, self.version + 1)
        self.version += 1

    def _run(self) -> None:
        try:
            while not self._stop.wait(PUBLISH_SECONDS):
                self.publish()
        except Exception as error:
            self.failure = error


class Server:
    """`headwater serve` as a process of its own."""

    def __init__(self, folder: Path, broker: str, name: str) -> None:
        self.port = free_port()
        self.log = folder / f"{name}.log"
        flags = ["--serve.port", str(self.port), "--snapshots.url", str(folder / "snapshots")]
        self.command = [sys.executable, "-m", "deploy.cli", "serve", "--kafka.bootstrap-servers", broker, *flags]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def health(self) -> Health | None:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/healthz")
        except httpx.TransportError:
            return None
        return dict(answer.json()) if answer.status_code == httpx.codes.OK else None

    def wait(self, seconds: float, holds: Callable[[Health], bool]) -> Health:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            health = self.health()
            if health is not None and holds(health):
                return health
            time.sleep(0.05)
        raise AssertionError(f"{self.health()} after {seconds} s\n{self.log.read_text()}")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    """Three servers over one store, none of which has a version yet."""
    with EmbeddedBroker(free_port(), tmp_path / "broker.log") as broker:
        started: list[Server] = []
        try:
            started.extend(Server(tmp_path, broker.address, f"server{number}") for number in range(3))
            yield started
        finally:
            for server in started:
                server.kill()


def snapshots(folder: Path, *arguments: str) -> str:
    line = [sys.executable, "-m", "deploy.cli", "snapshots", *arguments, "--snapshots.url", str(folder / "snapshots")]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def number(health: Health) -> int:
    return int(health["model_version"].removeprefix("run/v"))


@pytest.mark.slow
def test_one_command_rolls_all_servers_back_until_another_releases_them(servers: list[Server], tmp_path: Path) -> None:
    """A server that is missed, or that takes up what the learner publishes next, goes on giving bad answers."""
    with Publisher(tmp_path / "snapshots") as publisher:
        for server in servers:
            server.wait(START_SECONDS, lambda health: number(health) >= 3)
        began = time.monotonic()
        out = snapshots(tmp_path, "rollback", "--reason", "the newest is worse")
        moved = time.monotonic()
        pinned = int(out.split(" -> run/v")[1].split(",")[0])
        for server in servers:
            # One that had not come further than this version answers with it before it has read the alias.
            health = server.wait(FOLLOW_SECONDS, lambda health: bool(health["pinned"]))
            assert (number(health), health["generation"], health["problem"]) == (pinned, 1, None)
        now = time.monotonic()
        print(
            f"all {len(servers)} answer {now - began:.2f} s after the command began, {now - moved:.2f} s after its end"
        )
        servers[0].kill()
        servers[0].start()
        servers[0].wait(START_SECONDS, lambda health: number(health) == pinned)
        # By now retention would have deleted it long ago.
        assert publisher.version > pinned + 5
        assert [number(server.wait(FOLLOW_SECONDS, bool)) for server in servers] == [pinned] * 3
        released_at = publisher.version
        snapshots(tmp_path, "release")
        for server in servers:
            health = server.wait(FOLLOW_SECONDS, lambda health: number(health) >= released_at)
            assert (health["pinned"], health["generation"]) == (False, 2)
        newer = publisher.version + 1
        for server in servers:
            server.wait(FOLLOW_SECONDS, lambda health: number(health) >= newer)
    assert publisher.failure is None
    assert pinned not in publisher.store.versions("run")
