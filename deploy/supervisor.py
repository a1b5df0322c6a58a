"""Processes of one machine: started in order, restarted when they crash, stopped by pid in reverse order."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from storage.errors import SetupError

FIRST_BACKOFF_SECONDS = 0.25
"""Pause before the first restart; it doubles with each that follows soon."""
LONGEST_BACKOFF_SECONDS = 8.0
STEADY_SECONDS = 20.0
"""A process that ran so long has its crashes forgotten."""
MAX_CRASHES = 8
"""So many crashes without a steady time between are a crash loop."""
STOP_SECONDS = 20.0
"""How long a process may take to end after SIGTERM."""


def headwater_command(*arguments: str) -> list[str]:
    """Command line of another `headwater` command in this environment.

    `-P` keeps the folder it is started from off the import path: a user's own `model.py` is never taken for ours.
    """
    return [sys.executable, "-P", "-m", "deploy.cli", *arguments]


class Managed:
    """One process: its command, its log, its crashes."""

    def __init__(self, name: str, command: Sequence[str], log: Path, *, restart: bool = True) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.restart = restart
        self.restarts = 0
        self._crashes = 0
        self._started = 0.0
        self._due: float | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    @property
    def exit_code(self) -> int | None:
        """Exit code once it ended."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it; its output goes to the end of its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argument list, no shell
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._started = time.monotonic()

    def tend(self) -> None:
        """Restart it after a crash, after the backoff; raises `SetupError` for a crash loop or a wrong set-up."""
        if self._process is None or self._process.poll() is None:
            return
        code, now = self._process.returncode, time.monotonic()
        if code == 0 and not self.restart:
            return
        if self._due is None:
            self._note_crash(code, now)
        elif now >= self._due:
            self._due = None
            self.restarts += 1
            self.start()

    def _note_crash(self, code: int, now: float) -> None:
        self._crashes = 1 if now - self._started > STEADY_SECONDS else self._crashes + 1
        if not self.restart or code == 2 or self._crashes > MAX_CRASHES:
            raise SetupError(
                f"{self.name} ended with exit code {code}; its last words: {self.last_words()} (see {self.log})"
            )
        self._due = now + min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (self._crashes - 1))

    def last_words(self) -> str:
        """Last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "none"

    def stop(self) -> None:
        """SIGTERM, wait, SIGKILL where that was not enough."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Supervisor:
    """Starts processes in order, tends them, stops them in reverse order."""

    def __init__(self) -> None:
        self.processes: dict[str, Managed] = {}

    def start(self, process: Managed) -> Managed:
        """Start a process and tend it from now on."""
        self.processes[process.name] = process
        process.start()
        return process

    def tend(self) -> None:
        """Look after every process once; to be called a few times a second."""
        for process in self.processes.values():
            process.tend()

    def restarts(self) -> int:
        """Restarts of all processes."""
        return sum(process.restarts for process in self.processes.values())

    def stop(self) -> None:
        """Stop all, the last started first."""
        for process in reversed(self.processes.values()):
            process.stop()
