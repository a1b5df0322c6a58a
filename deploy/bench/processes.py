"""Processes that are measured: what they print, the CPU seconds they took, the memory they held."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.errors import SetupError

PROBE_SECONDS = 0.1
"""Pause between two looks at a process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A process, and those it waited for, that ended."""

    output: str
    """What it wrote to stdout."""
    cpu_seconds: float
    """User and system time, from its start to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a job took."""

    seconds: float
    """From the first event that it took in to its end."""
    cpu_seconds: float
    """User and system time of its processes, from their start to its end."""
    peak_rss_mb: float
    """Sum of the most memory that each of them had resident."""


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the block as Ctrl-C does, so that no process is left behind."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, former, strict=True):
            signal.signal(number, handler)


def run_to_end(command: Sequence[str], *, log: Path, environ: Mapping[str, str], limit_seconds: float) -> Finished:
    """Run a command to its end; raises `SetupError` where it fails or takes too long. Its errors go to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    output = log.with_suffix(".out")
    with log.open("wb") as errors, output.open("wb") as printed:
        process = subprocess.Popen(  # noqa: S603 - our own argument list, no shell
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=errors, env=dict(environ), start_new_session=True
        )
    deadline = time.monotonic() + limit_seconds
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                raise SetupError(f"{command[0]} took over {limit_seconds:g} s; see {log}")
            time.sleep(PROBE_SECONDS)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SetupError(f"{command[0]} ended with {process.returncode}: {last_words(log)} (see {log})")
    return Finished(output=output.read_text(errors="replace"), cpu_seconds=usage.ru_utime + usage.ru_stime)


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process; raises `SetupError` where there is no /proc."""
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int, *, peak: bool = False) -> float:
    """Memory of a running process that is resident, or was at most; raises `SetupError` where there is no /proc."""
    # What `wait4` tells of it is that of the process that it was forked from, where that was larger.
    name = "VmHWM:" if peak else "VmRSS:"
    line = next((line for line in _proc(pid, "status").splitlines() if line.startswith(name)), None)
    if line is None:
        raise SetupError(f"process {pid} has ended while it was measured")
    return int(line.split()[1]) / 1024


def last_words(log: Path) -> str:
    """Last line of a log."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "none"


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError as error:
        raise SetupError(f"process {pid} cannot be measured: benchmarks need Linux and a running process") from error


def written_bytes() -> int:
    """Bytes that this process, with all its threads, has written to files so far; raises `SetupError`."""
    line = next(line for line in _proc(os.getpid(), "io").splitlines() if line.startswith("wchar:"))
    return int(line.split()[1])
