"""A disk without room, and deaths, at every call of a publish: what is there stays right, and nothing is leaked."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from storage.errors import SnapshotError
from storage.manifest import ManifestDraft, Table
from storage.objects import Objects
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore

MOST_CALLS = 60
CALLS = {"put", "create", "swap", "list", "delete"}


class Died(BaseException):
    """What stands for SIGKILL."""


class FailingObjects(Objects):
    """Has no room, or dies, at the n-th call that changes or lists anything."""

    def __init__(self, url: str, at: int, failure: BaseException, *, half: bool) -> None:
        super().__init__(url)
        self.at, self.failure, self.half = at, failure, half
        self.num_calls = 0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS:
            return found
        self.num_calls += 1
        if self.num_calls != self.at:
            return found
        if self.half and name in ("put", "create", "swap"):
            return self._write_and_fail
        raise self.failure

    def _write_and_fail(self, path: str, value: bytes, former: object = None) -> None:
        """The bytes arrived, and nobody was told."""
        super().put(path, value)
        raise self.failure


def weights(version: int) -> dict[str, dict[str, npt.NDArray[Any]]]:
    rows = np.zeros((50, 4), np.float32)
    rows[: version % 50] = version
    ids = np.full(50, ord("a"), np.uint8)
    return {
        "model": {"items.weight": rows, "items.id_bytes": ids, "items.id_ends": np.arange(1, 51)},
        "trainer": {"step": np.array(version)},
    }


def publish(store: SnapshotStore, version: int) -> None:
    tables = {"items": Table(rows=50, dim=4, dtype="float32", columns=("items.weight",))}
    store.publish(weights(version), ManifestDraft(run_id="run", version=version, tables=tables))


def assert_right(store: SnapshotStore) -> int:
    """Whatever is named or listed can be read whole and is what was published under its number; returns the named."""
    pointer = store.latest()
    assert pointer is not None
    for version in (*store.versions("run"), pointer.version):
        manifest = store.manifest("run", version)
        for name, arrays in weights(version).items():
            loaded = store.load(manifest, name)
            assert {key: array.tobytes() for key, array in loaded.items()} == {
                key: array.tobytes() for key, array in arrays.items()
            }
    return pointer.version


FAILURES = {
    "full disk": SnapshotError("x cannot be written to y: No space left on device (os error 28)"),
    "death": Died(),
}


@pytest.mark.parametrize("half", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_publish_may_fail_at_any_call(tmp_path: Path, failure: str, half: bool) -> None:
    """Servers would load what is half there, the next publish would stumble, or the disk never be free."""
    num_failed = 0
    for at in range(1, MOST_CALLS):
        folder = tmp_path / str(at)
        settings = SnapshotSettings(url=str(folder), keep=1, max_delta_share=1e9)
        store = SnapshotStore(settings)
        for version in (1, 2, 3):
            publish(store, version)
        store._objects = FailingObjects(str(folder), at, FAILURES[failure], half=half)
        try:
            publish(store, 4)
        except (SnapshotError, Died):
            num_failed += 1
        else:
            break
        reader = SnapshotStore(settings)
        assert assert_right(reader) in (3, 4)
        # The process that comes after it begins with what `latest` names, and takes a number that is free.
        again = SnapshotStore(settings)
        again.go_on_from(again.latest())
        following = max(again.versions("run")) + 1
        publish(again, following)
        assert assert_right(reader) == following
        for path in again.expendable():
            again.objects.delete(path)
        assert assert_right(reader) == following
        assert len(reader.versions("run")) <= 2 + 3
        named = {path.parent.name for path in folder.rglob("manifest.json")}
        left = {path.parent.name for path in folder.rglob("*") if path.is_file() and path.name != "latest"}
        assert left == named
    assert num_failed >= 5


def test_the_same_trainer_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """Nobody would think of starting it anew after the disk was cleared."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=1))
    publish(store, 1)
    whole = store._objects
    for at, version in zip((1, 2, 3, 4), (2, 4, 6, 8), strict=True):
        store._objects = FailingObjects(str(tmp_path), at, FAILURES["full disk"], half=False)
        with pytest.raises(SnapshotError, match="No space left"):
            publish(store, version)
        store._objects = whole
        publish(store, version + 1)
        assert assert_right(store) == version + 1
