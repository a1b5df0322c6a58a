import os
import sys
import time
from pathlib import Path

import pytest

from deploy.bench.processes import cpu_seconds, rss_mb, run_to_end
from storage.errors import SetupError

BURN = "import time\nwhile time.process_time() < .3: pass\nprint('done')"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_process_s_cpu_time_holds_that_of_its_children(tmp_path: Path) -> None:
    """A job behind a shell script would look free of cost."""
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}], check=True)"
    finished = run_to_end(python(child), log=tmp_path / "run.log", environ=os.environ, limit_seconds=60)
    assert finished.output == "done\n"
    assert finished.cpu_seconds >= 0.3


def test_a_process_that_fails_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    """Its row would otherwise hold the rate of a job that did nothing."""
    with pytest.raises(SetupError, match=r"ended with 1: ZeroDivisionError"):
        run_to_end(python("1 / 0"), log=tmp_path / "run.log", environ=os.environ, limit_seconds=60)


def test_a_process_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    """A hanging peer must not hold the table, nor live on beside the next run."""
    pid_file = tmp_path / "pid"
    sleep = f"import os, pathlib, time\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\ntime.sleep(600)"
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {sleep!r}])"
    with pytest.raises(SetupError, match="took over 3 s"):
        run_to_end(python(child), log=tmp_path / "run.log", environ=os.environ, limit_seconds=3)
    assert is_gone(int(pid_file.read_text()))


def test_our_own_process_is_measured() -> None:
    """The figures of workers and brokers are read this way."""
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.5)
    assert 1 < rss_mb(os.getpid()) <= rss_mb(os.getpid(), peak=True)


def is_gone(pid: int) -> bool:
    for _ in range(100):
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False
