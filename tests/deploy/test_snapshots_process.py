"""`headwater snapshots` as a process of its own: its exit codes, and what it loads."""

import subprocess
import sys
from pathlib import Path

from storage.manifest import ManifestDraft
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore

ROOT = Path(__file__).parents[2]


def filled_store(folder: Path) -> SnapshotStore:
    """Two versions without an array."""
    store = SnapshotStore(SnapshotSettings(url=str(folder), keep=2))
    for version in (1, 2):
        store.publish({"model": {}}, ManifestDraft(run_id="run", version=version))
    return store


def test_a_real_command_ends_with_one_line_and_its_code(tmp_path: Path) -> None:
    """What scripts see: 0, 1 for what is damaged, 2 for what was typed wrongly or cannot work."""
    store = filled_store(tmp_path)
    store.objects.put("headwater/run/v000000001/model.safetensors", b"damaged")
    codes = {}
    for verb in (["verify", "v2"], ["verify", "--all"], ["rollback", "x"], ["rollback"], ["rollback", "v9"]):
        ended = command(tmp_path, *verb)
        codes[" ".join(verb)] = ended.returncode
        if ended.returncode == 2:
            (line,) = ended.stderr.splitlines()
            assert line.startswith("headwater: ")
    assert list(codes.values()) == [0, 1, 2, 2, 2]


def command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "deploy.cli", "snapshots", *arguments, "--snapshots.url", str(folder)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=ROOT)


def test_no_verb_loads_torch_or_a_compiler(tmp_path: Path) -> None:
    """A rollback waits for nothing that it does not need."""
    filled_store(tmp_path)
    verbs = [["ls"], ["rollback"], ["release"], ["gc"], ["verify", "--all"], ["diff", "1", "2"]]
    code = f"""
import sys
from deploy.cli import app
for verb in {verbs}:
    tokens = ["snapshots", *verb, "--snapshots.url", {str(tmp_path)!r}]
    assert app(tokens, exit_on_error=False, result_action="return_value") == 0, verb
    assert not {{"torch", "numba", "triton", "matplotlib", "faust"}} & sys.modules.keys(), verb
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
