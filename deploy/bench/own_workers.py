"""Runs of Headwater's own workers, as processes, from their first applied record until everything has left them."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx

from deploy.bench.processes import Measured, cpu_seconds, last_words, rss_mb
from deploy.broker import free_port
from deploy.settings import Settings, dump_settings
from deploy.supervisor import headwater_command
from storage.errors import SetupError

PROBE_SECONDS = 0.1
"""Pause between two looks at the workers: each look costs them a millisecond."""
FIRST_PROBE_SECONDS = 0.02
"""The same until the first record is applied."""
READY_SECONDS = 60.0
"""How long the workers may take until they have applied a record."""
STOP_SECONDS = 60.0


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
        deadline = time.monotonic() + READY_SECONDS
        started = time.monotonic()
        while not any(state["applied"] >= 0 for state in self.partitions().values()):
            self._check(deadline, "applied nothing")
            time.sleep(FIRST_PROBE_SECONDS)
            started = time.monotonic()
        deadline = started + limit_seconds
        while not self._done(ends):
            self._check(deadline, "did not come to the log's end")
            time.sleep(PROBE_SECONDS)
        return Measured(
            seconds=time.monotonic() - started,
            cpu_seconds=sum(map(cpu_seconds, self.pids)),
            peak_rss_mb=sum(rss_mb(pid, peak=True) for pid in self.pids),
        )

    def partitions(self) -> dict[int, Mapping[str, Any]]:
        """What the workers say of the partitions that they hold."""
        found: dict[int, Mapping[str, Any]] = {}
        for port in self._ports:
            try:
                state = self._client.get(f"http://127.0.0.1:{port}/state").json()
            except httpx.HTTPError:
                continue
            found.update((int(number), each) for number, each in state["partitions"].items())
        return found

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

    def _done(self, ends: Mapping[int, int]) -> bool:
        states = self.partitions()
        return all(
            number in states and states[number]["applied"] + 1 >= end and not states[number]["outbox"]
            for number, end in ends.items()
        )

    def _check(self, deadline: float, failure: str) -> None:
        for process, folder in zip(self._processes, self.folders, strict=True):
            if process.poll() is not None:
                log = folder / "worker.log"
                raise SetupError(f"a worker ended with {process.returncode}: {last_words(log)} (see {log})")
        if time.monotonic() > deadline:
            raise SetupError(f"the workers {failure} in time; see {self._folder}")
