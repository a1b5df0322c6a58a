import os
import subprocess
import sys
from pathlib import Path


def test_nothing_is_compiled_once_a_worker_works(tmp_path: Path) -> None:
    """A worker's first chunk, or a user's first read, waits for seconds; on a full disk it fails."""
    command = [sys.executable, "-m", "tests.streams.compiled_work", str(tmp_path)]
    environ = {**os.environ, "NUMBA_DISABLE_JIT": "0"}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []
