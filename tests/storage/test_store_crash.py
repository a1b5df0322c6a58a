import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from storage.sequence_store import SequenceStore
from tests.storage.crash_child import APPLIED, FLUSHED, NUM, RULES, apply_all, make_log, open_store, send
from tests.storage.plain import PlainStore, summaries

ROOT = Path(__file__).parents[2]
NUM_KILLS = 6


def start_child(folder: Path, what: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.storage.crash_child", str(folder), what]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def first_line(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout is not None
    return child.stdout.readline()


def end(child: subprocess.Popen[bytes]) -> bool:
    """Kill it; whether that is what it died of."""
    child.kill()
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    child.stdout.close()
    return child.wait() < 0


def test_after_kill_9_at_random_moments_the_state_is_what_the_log_says(tmp_path: Path) -> None:
    """Whatever moment a worker dies in, no event may be missing or be there twice, no sample be lost."""
    rng = random.Random(3)
    num_killed = 0
    for seed in range(NUM_KILLS):
        child = start_child(tmp_path, str(seed))
        assert first_line(child) == b"open\n"
        time.sleep(rng.uniform(0.0, 0.25))
        num_killed += end(child)
        store = open_store(tmp_path)
        check_against_fresh(store, tmp_path / f"fresh{seed}")
        store.close()
        if seed == NUM_KILLS // 2:
            shutil.rmtree(tmp_path / "p0")
    assert num_killed > NUM_KILLS // 2
    last = start_child(tmp_path, str(NUM_KILLS))
    assert last.communicate()[0] == b"open\n"
    assert last.returncode == 0
    store = open_store(tmp_path)
    assert store.applied == NUM - 1
    check_against_plain(store)
    store.close()
    due, sent = due_of_log(tmp_path / "whole"), set((tmp_path / "sent").read_text().splitlines())
    assert len(due) > 1_000
    assert due <= sent
    assert len(sent - due) <= num_killed, "more than torn lines differs"


def test_a_kill_between_apply_and_flush_leaves_the_store_at_its_last_flush(tmp_path: Path) -> None:
    """What was not flushed must be gone as a whole; applied again, it must come to the same under the same ids."""
    child = start_child(tmp_path, "stop")
    assert first_line(child) == f"{APPLIED - 1}\n".encode()
    assert end(child)
    store = open_store(tmp_path)
    assert store.applied == FLUSHED - 1
    assert store.outbox_size > 100
    check_against_fresh(store, tmp_path / "fresh")
    check_against_plain(store)
    send(store, tmp_path / "again", NUM)
    apply_all(store, make_log(), APPLIED - 1)
    check_against_plain(store)
    send(store, tmp_path / "again", NUM)
    store.close()
    assert (tmp_path / "again").read_text() == (tmp_path / "sent").read_text()


def check_against_fresh(store: SequenceStore, folder: Path) -> None:
    """The same as a store that applied as much of the log at once."""
    fresh = open_store(folder)
    apply_all(fresh, make_log(), store.applied)
    figures = [(each.applied, each.num_users, each.num_timers, each.watermark_ms) for each in (store, fresh)]
    assert figures[0] == figures[1]
    assert list(store.users()) == list(fresh.users())
    for user_id in fresh.users():
        assert summaries(store.read(user_id)) == summaries(fresh.read(user_id))
        assert store.updates(user_id) == fresh.updates(user_id)
    fresh.close()


def check_against_plain(store: SequenceStore) -> None:
    """The same as the plain reading of the log."""
    plain = PlainStore(RULES)
    plain.apply(change for change in make_log() if change.offset <= store.applied)
    assert sorted(store.users()) == sorted(plain.users)
    for user_id in plain.users:
        assert summaries(store.read(user_id)) == [event.summary() for event in plain.events(user_id)]


def due_of_log(folder: Path) -> set[str]:
    """The lines of all that the log makes due."""
    store = open_store(folder)
    apply_all(store, make_log(), NUM - 1)
    send(store, folder / "due", NUM)
    store.close()
    return set((folder / "due").read_text().splitlines())
