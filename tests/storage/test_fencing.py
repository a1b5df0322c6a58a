"""Two trainers on one store: the one that was away stops, and takes nobody back."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET

from storage.errors import SnapshotExistsError
from storage.manifest import ManifestDraft, Pointer
from storage.objects import Objects
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore

TAKEN_OVER = "another trainer has taken over; stop one of them"


def publish(store: SnapshotStore, version: int, run_id: str = "run", held_back: str = "") -> None:
    weights = {"model": {"weight": np.full(3, version, np.float32)}}
    store.publish(weights, ManifestDraft(run_id=run_id, version=version, held_back=held_back or UNSET))


def named(store: SnapshotStore) -> tuple[str, int, int]:
    pointer = store.latest()
    assert pointer is not None
    return pointer.run_id, pointer.version, pointer.generation


@pytest.fixture(params=["folder", "memory"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[SnapshotStore, SnapshotStore]:
    """Two trainers' views of one store."""
    url = str(tmp_path) if request.param == "folder" else "memory://"
    first, second = (SnapshotStore(SnapshotSettings(url=url, keep=1)) for _ in range(2))
    second._objects = first._objects
    return first, second


def test_a_trainer_that_was_away_while_another_took_over_stops(stores: tuple[SnapshotStore, SnapshotStore]) -> None:
    """Retention has deleted what the other published under its next number: nothing else would stop it."""
    stale, other = stores
    publish(stale, 1)
    other.go_on_from(other.latest())
    for version in range(2, 7):
        publish(other, version)
    assert 2 not in other.versions("run")
    with pytest.raises(SnapshotExistsError, match=TAKEN_OVER):
        publish(stale, 2)
    assert named(other) == ("run", 6, 6)
    assert other.versions("run") == [5, 6]
    publish(other, 7)
    assert named(other) == ("run", 7, 7)


def test_two_that_begin_on_an_empty_store_do_not_take_turns(stores: tuple[SnapshotStore, SnapshotStore]) -> None:
    """Each has a run of its own, so no number of theirs collides."""
    for store in stores:
        store.go_on_from(store.latest())
    publish(stores[0], 1, "a")
    with pytest.raises(SnapshotExistsError, match=r"must name nothing, as this .* got a/v1 \(generation 1\): another"):
        publish(stores[1], 1, "b")
    publish(stores[0], 2, "a")
    assert named(stores[0]) == ("a", 2, 2)


def test_a_pointer_that_moves_while_the_files_are_written_is_not_moved_back(
    stores: tuple[SnapshotStore, SnapshotStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version may take seconds to write."""
    stale, other = stores
    publish(stale, 1)
    other.go_on_from(other.latest())
    create = Objects.create

    def create_late(objects: Objects, path: str, value: bytes) -> None:
        create(objects, path, value)
        monkeypatch.undo()
        publish(other, 3)

    monkeypatch.setattr(Objects, "create", create_late)
    with pytest.raises(SnapshotExistsError, match=TAKEN_OVER):
        publish(stale, 2)
    assert named(other) == ("run", 3, 2)


def test_a_version_that_is_held_back_moves_nothing_and_is_no_base(tmp_path: Path) -> None:
    """Who reads the next one would need what nobody should have read."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=0))
    publish(store, 1)
    publish(store, 2, held_back="worse")
    publish(store, 3, held_back="worse still")
    assert named(store) == ("run", 1, 1)
    assert store.versions("run") == [1, 3]
    assert store.manifest("run", 3).held_back == "worse still"
    publish(store, 4)
    assert named(store) == ("run", 4, 2)
    assert not store.manifest("run", 4).held_back


def test_the_first_version_may_be_held_back(tmp_path: Path) -> None:
    """There is nothing yet that retention could go by."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path)))
    publish(store, 1, held_back="bad")
    assert store.latest() is None
    assert store.versions("run") == [1]


TRAINER = """
import sys
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.storage.test_fencing import publish

store = SnapshotStore(SnapshotSettings(url=sys.argv[1]))
pointer = store.latest()
store.go_on_from(pointer)
version = pointer.version
print("ready", flush=True)
for _ in sys.stdin:
    version += 1
    publish(store, version)
    print("published", version, flush=True)
"""


def test_of_two_trainers_that_are_processes_the_one_that_comes_second_ends(tmp_path: Path) -> None:
    """As above, with nothing in common but the folder."""
    publish(SnapshotStore(SnapshotSettings(url=str(tmp_path))), 1)
    command = [sys.executable, "-c", TRAINER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    root = Path(__file__).parents[2]
    trainers = [subprocess.Popen(command, cwd=root, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    try:
        for trainer in trainers:
            assert trainer.stdout.readline() == "ready\n"
        for version in (2, 3):
            trainers[0].stdin.write("\n")
            trainers[0].stdin.flush()
            assert trainers[0].stdout.readline() == f"published {version}\n"
        _, error = trainers[1].communicate("\n", timeout=60)
        assert trainers[1].returncode != 0
        assert TAKEN_OVER in error
        out, _ = trainers[0].communicate("\n", timeout=60)
        assert (trainers[0].returncode, out) == (0, "published 4\n")
    finally:
        for trainer in trainers:
            trainer.kill()
            trainer.wait()
    pointer = SnapshotStore(SnapshotSettings(url=str(tmp_path))).latest()
    assert isinstance(pointer, Pointer)
    assert pointer.version == 4
