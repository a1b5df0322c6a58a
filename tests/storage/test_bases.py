import weakref
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from storage.manifest import ManifestDraft, Table
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.storage.made_table import MadeTable, draft


def restarted(store: SnapshotStore) -> SnapshotStore:
    """The same store as a new process has it."""
    again = SnapshotStore(store.settings)
    again._objects = store._objects
    return again


def publish_many(count: int, **settings: Any) -> list[int | None]:
    """Bases of so many versions, of which each changes one row; the first has number 0."""
    chosen = SnapshotSettings(url="memory://", keep=0, max_delta_share=1e9, **settings)
    store, table = SnapshotStore(chosen), MadeTable(0, 100)
    bases = []
    for version in range(count):
        table.update()
        bases.append(store.publish(table.files(), draft(version)).base_version)
    return bases


def test_every_so_often_a_version_is_full() -> None:
    """A chain without end would be read from its beginning by every server that starts."""
    assert publish_many(9, full_every=4) == [None, 0, 1, 2, None, 4, 5, 6, None]
    assert publish_many(3, full_every=1) == [None, None, None]


def test_every_so_often_a_delta_is_one_of_the_full_version() -> None:
    """Who was away for an hour reads a full version, a cumulative delta and a few more."""
    assert publish_many(10, cumulative_every=3) == [None, 0, 1, 0, 3, 4, 0, 6, 7, 0]
    assert publish_many(4, cumulative_every=1) == [None, 0, 0, 0]


def test_deltas_that_have_grown_to_a_share_of_the_full_version_end_its_chain() -> None:
    """Deltas that together are as large as a full version save nothing."""
    store, table = SnapshotStore(SnapshotSettings(url="memory://", max_delta_share=0.5)), MadeTable(0, 500)
    sizes: list[tuple[str, int]] = []
    for version in range(40):
        table.update()
        manifest = store.publish(table.files(), draft(version))
        sizes.append((manifest.kind, sum(file.bytes for file in manifest.files)))
    fulls = [place for place, (kind, _) in enumerate(sizes) if kind == "full"]
    assert len(fulls) > 1
    for start, end in pairwise(fulls):
        told = sum(size for _, size in sizes[start + 1 : end])
        assert told > sizes[start][1] / 2 >= told - sizes[end - 1][1]


def test_a_restart_begins_with_a_full_version() -> None:
    """A process that has not published a version does not know its arrays."""
    store, table = SnapshotStore(SnapshotSettings(url="memory://")), MadeTable(0, 100)
    kinds = [store.publish(table.files(), draft(version)).kind for version in (1, 2)]
    again = restarted(store)
    kinds += [again.publish(table.files(), draft(version)).kind for version in (3, 4)]
    assert kinds == ["full", "delta", "full", "delta"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"draft": draft(9, "other")},
        {"draft": draft(1)},
        {"draft": ManifestDraft(run_id="run", version=9)},
        {"draft": ManifestDraft(run_id="run", version=9, tables={"items": Table(rows=0, dim=3, dtype="float32")})},
        {"files": {"model": {"items.weight": np.zeros(1)}}},
    ],
    ids=["another run", "a lower number", "no tables", "no columns", "other files"],
)
def test_what_is_no_successor_is_full(wrong: dict[str, Any]) -> None:
    """A delta of what it does not follow could not be told, or would save nothing."""
    store, table = SnapshotStore(SnapshotSettings(url="memory://")), MadeTable(0, 100)
    for version in (2, 3):
        store.publish(table.files(), draft(version))
    given = {"files": table.files(), "draft": draft(9)}
    assert store.publish(**(given | wrong)).kind == "full"  # type: ignore[arg-type]  # either of them


def test_versions_of_another_run_are_no_bases_though_they_have_the_same_numbers() -> None:
    """The delta would be told by one state and applied to another."""
    store, table = SnapshotStore(SnapshotSettings(url="memory://", keep=9)), MadeTable(0, 100)
    for version in (2, 3):
        restarted(store).publish(table.files(), draft(version, "other"))
    for version in (2, 3):
        store.publish(table.files(), draft(version))
    assert store.publish(table.files(), draft(4, "other")).kind == "full"


def test_arrays_that_were_changed_after_they_were_published_are_no_base() -> None:
    """The newest version could not be loaded any more, and no learner could go on from it."""
    store, table = SnapshotStore(SnapshotSettings(url="memory://")), MadeTable(0, 100)
    files = table.files()
    store.publish(files, draft(1))
    files["model"]["dense.scale"][0] = 99
    assert [store.publish(table.files(), draft(version)).kind for version in (2, 3)] == ["full", "delta"]


def test_where_every_version_is_full_none_is_kept_in_memory() -> None:
    """Whoever turns deltas off has no room for two more copies of a large table."""
    store = SnapshotStore(SnapshotSettings(url="memory://", full_every=1))
    files = MadeTable(0, 100).files()
    kept = weakref.ref(files["model"]["items.weight"])
    store.publish(files, draft(1))
    del files
    assert kept() is None


def test_a_chain_that_somebody_has_broken_is_not_gone_on_with() -> None:
    """Another trainer's retention, or a person, may have deleted a base: what is told by it would be lost."""
    store, table = SnapshotStore(SnapshotSettings(url="memory://", keep=9)), MadeTable(0, 100)
    for version in (1, 2, 3):
        store.publish(table.files(), draft(version))
    store._objects.delete("headwater/run/v000000002/manifest.json")
    assert [store.publish(table.files(), draft(version)).base_version for version in (4, 5)] == [None, 4]


def test_a_publish_that_fails_is_no_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next version would be told by one that nobody can load."""
    store, table = SnapshotStore(SnapshotSettings(url="memory://", keep=9)), MadeTable(0, 100)
    store.publish(table.files(), draft(1))
    for place, step in ((store._objects, "put"), (store._objects, "create"), (store, "_point")):
        with monkeypatch.context() as patched:
            patched.setattr(place, step, lambda *_: 1 / 0)
            table.update()
            with pytest.raises(ZeroDivisionError):
                store.publish(table.files(), draft(2))
    assert store.publish(table.files(), draft(3)).base_version == 1


def test_a_damaged_version_holds_up_neither_publishing_nor_deleting() -> None:
    """One bad manifest among those that are kept would let the disk fill, or stop the learner."""
    store, table = SnapshotStore(SnapshotSettings(url="memory://", keep=1, cumulative_every=2)), MadeTable(0, 100)
    for version in range(1, 9):
        store.publish(table.files(), draft(version))
        store = restarted(store)
        store._objects.put(f"headwater/run/v{version:09d}/manifest.json", b"damaged")
    assert store.versions("run") == [7, 8]
