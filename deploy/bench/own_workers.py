"""Runs of Headwater's own workers, as processes, from their first applied record until everything has left them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeAlias

import httpx

from deploy.bench.processes import Measured, cpu_seconds, last_words, rss_mb
from deploy.broker import free_port
from deploy.settings import Settings, dump_settings
from deploy.supervisor import headwater_command
from storage.errors import SetupError

PAUSE_SECONDS = 0.1
"""Between two looks at the workers: each look costs them a millisecond."""
FIRST_PAUSE_SECONDS = 0.02
"""The same until the first record is applied."""
READY_SECONDS = 60.0
"""How long the workers may take until they have applied a record."""
STOP_SECONDS = 60.0

States: TypeAlias = Mapping[int, Mapping[str, Any]]
"""What workers say of the partitions that they hold."""


class OwnWorkers:
    """Worker processes of one group, each with a port and a state folder of its own; stopped at the block's end."""

    def __init__(self, settings: Settings, folder: Path, *, workers: int, environ: Mapping[str, str]) -> None:
        """`environ` is that of the processes, which take all settings from a file in `folder`."""
        self.folders = [folder / f"worker-{number}" for number in range(workers)]
        self._settings = settings
        self._folder = folder
        self._environ = dict(environ)
        self._ports = [free_port() for _ in self.folders]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._client = httpx.Client(timeout=5.0, trust_env=False)

    def __enter__(self) -> Self:
        for folder, port in zip(self.folders, self._ports, strict=True):
            folder.mkdir(parents=True)
            settings = replace(
                self._settings,
                store=replace(self._settings.store, folder=folder / "state"),
                worker=replace(self._settings.worker, web_port=port),
            )
            file = folder / "settings.toml"
            file.write_text(dump_settings(settings))
            with (folder / "worker.log").open("wb") as log:
                process = subprocess.Popen(  # noqa: S603 - our own argument list, no shell
                    headwater_command("--config", str(file), "worker"),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environ,
                    start_new_session=True,
                )
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [process.pid for process in self._processes]

    def run(self, ends: Mapping[int, int], limit_seconds: float) -> Measured:
        """Wait until every partition has applied all before its end and its outbox is empty.

        The clock starts with the last look that saw no record applied. Raises `SetupError` after `limit_seconds`.
        """
        started = self.wait(
            "apply a record",
            lambda states: any(state["applied"] >= 0 for state in states.values()),
            READY_SECONDS,
            pause=FIRST_PAUSE_SECONDS,
        )
        self.wait("come to the log's end", lambda states: all_done(states, ends), limit_seconds)
        return Measured(
            seconds=time.monotonic() - started,
            cpu_seconds=sum(map(cpu_seconds, self.pids)),
            peak_rss_mb=sum(rss_mb(pid, peak=True) for pid in self.pids),
        )

    def wait(self, what: str, done: Callable[[States], bool], seconds: float, *, pause: float = PAUSE_SECONDS) -> float:
        """Look at the partitions until `done`; returns the (monotonic) time of the look before.

        Raises `SetupError` where a worker ends, or after so many seconds.
        """
        before = now = time.monotonic()
        deadline = now + seconds
        while not done(self.partitions()):
            for process, folder in zip(self._processes, self.folders, strict=True):
                if process.poll() is not None:
                    log = folder / "worker.log"
                    raise SetupError(f"a worker ended with {process.returncode}: {last_words(log)} (see {log})")
            if now > deadline:
                raise SetupError(f"the workers did not {what} within {seconds:g} s; see {self._folder}")
            time.sleep(pause)
            before, now = now, time.monotonic()
        return before

    def partitions(self) -> States:
        """What the workers say of the partitions that they hold."""
        found: dict[int, Mapping[str, Any]] = {}
        for port in self._ports:
            try:
                state = self._client.get(f"http://127.0.0.1:{port}/state").json()
            except httpx.HTTPError:
                continue
            found.update((int(number), each) for number, each in state["partitions"].items())
        return found

    def answers(self) -> bool:
        """Whether every worker answers requests."""
        try:
            return all(self._client.get(f"http://127.0.0.1:{port}/state").is_success for port in self._ports)
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """End all workers in good order, or kill what does not end."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def all_done(states: States, ends: Mapping[int, int]) -> bool:
    """Whether every partition has applied all before its end and has sent all that was due."""
    return all(
        number in states and states[number]["applied"] + 1 >= end and not states[number]["outbox"]
        for number, end in ends.items()
    )
