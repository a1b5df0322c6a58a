import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from storage.sequence_store import SequenceStore
from tests.storage import crash_child
from tests.storage.plain import make_changes, plain_fold

ROOT = Path(__file__).parents[2]
NUM_KILLS = 6


def start_child(folder: Path, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.storage.crash_child", str(folder), str(seed)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def test_after_kill_9_at_random_moments_the_state_is_the_plain_fold_of_the_log(tmp_path: Path) -> None:
    """Whatever moment a worker dies in, no event may be missing or be there twice, no sample be lost."""
    rng = random.Random(3)
    num_killed = 0
    for seed in range(NUM_KILLS):
        child = start_child(tmp_path, seed)
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        time.sleep(rng.uniform(0.0, 0.25))
        child.kill()
        num_killed += child.wait() < 0
        child.stdout.close()
        if seed == NUM_KILLS // 2:
            shutil.rmtree(tmp_path / "p0")
    assert num_killed > NUM_KILLS // 2
    last = start_child(tmp_path, NUM_KILLS)
    assert last.communicate()[0] == b"open\n"
    assert last.returncode == 0

    changes = make_changes(crash_child.NUM, seed=1, users=2)
    store = open_store(tmp_path)
    assert store.applied == crash_child.NUM - 1
    assert sorted(store.users()) == ["user0", "user1"]
    for user_id in store.users():
        assert store.read(user_id) == plain_fold(changes, user_id, cap=store.settings.cap)
    store.close()

    whole = open_store(tmp_path / "whole")
    whole.apply(0, crash_child.NUM - 1, changes)
    crash_child.send(whole, tmp_path / "due", crash_child.NUM)
    whole.close()
    due = set((tmp_path / "due").read_text().splitlines())
    sent = set((tmp_path / "sent").read_text().splitlines())
    assert len(due) > 1_000
    assert due <= sent
    assert len(sent - due) <= num_killed, "more than torn lines differs"


def open_store(folder: Path) -> SequenceStore:
    settings = crash_child.settings(folder)
    return SequenceStore.open(settings, topic="events", partition=0, num_partitions=1, topic_id="t1")
