"""Following deltas: a replica is what the whole version would give, and nothing of the former one is in it."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy.follower import Follower
from deploy.freshness import Freshness
from model.packed_ids import pack_ids
from model.recommender import Recommender
from model.row_arrays import ROW_ARRAYS
from model.sequence import NOBODY
from storage.digest import state_digest
from storage.manifest import Manifest, ManifestDraft, Table
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.deploy.models import NOW_MS, SETTINGS, model_arrays

Arrays = dict[str, npt.NDArray[Any]]


class Publisher:
    """A trainer whose ids come, go and leave their rows to others."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.store = SnapshotStore(SnapshotSettings(url=str(folder), max_delta_share=1e9, **changes))
        self.arrays: Arrays = model_arrays(0)
        self.ids = ["", *(f"i{number}" for number in range(40))]
        self.version = 0

    def rename(self, row: int, item_id: str) -> None:
        """Give a row to another id, or with an empty one to nobody."""
        if row == len(self.ids):
            self.ids.append("")
            for name in set(ROW_ARRAYS) & self.arrays.keys():
                self.arrays[name] = np.concatenate([self.arrays[name], self.arrays[name][-1:]])
        self.ids[row] = item_id
        weight, live = self.arrays["items.weight"].copy(), self.arrays["items.live"].copy()
        live[row] = bool(item_id)
        weight[row] = np.random.default_rng([self.version, row]).normal(size=SETTINGS.dim) * bool(item_id)
        self.arrays |= {"items.weight": weight, "items.live": live}

    def publish(self) -> Manifest:
        self.version += 1
        id_bytes, id_ends = pack_ids(self.ids)
        self.arrays |= {"items.id_bytes": id_bytes, "items.id_ends": id_ends}
        draft = ManifestDraft(
            run_id="run",
            version=self.version,
            config=dataclasses.asdict(SETTINGS) | {"actions": list(SETTINGS.actions)},
            tables={"items": Table(rows=len(self.ids), dim=SETTINGS.dim, dtype="float32", columns=ROW_ARRAYS)},
        )
        return self.store.publish({"model": dict(self.arrays)}, draft)


def follower_of(publisher: Publisher) -> Follower:
    follower = Follower(publisher.store, Freshness(lambda: NOW_MS), poll_seconds=60)
    publisher.publish()
    assert follower.poll()
    return follower


def version_of(follower: Follower) -> int:
    assert follower.replica is not None
    return follower.replica.manifest.version


def recommender_of(follower: Follower) -> Recommender:
    assert follower.replica is not None
    return follower.replica.recommender


def answers(recommender: Recommender, item_ids: list[str]) -> object:
    """All that can be asked."""
    nobody = NOBODY
    listed = recommender.recommend(nobody, now_ms=0, k=100)
    return listed, recommender.rank(nobody, now_ms=0, item_ids=item_ids), [recommender.contains(i) for i in item_ids]


def test_only_what_came_after_the_version_that_answers_is_read(tmp_path: Path) -> None:
    """A table of gigabytes would be fetched every few seconds, for a thousand rows that changed."""
    publisher = Publisher(tmp_path)
    follower = follower_of(publisher)
    (tmp_path / "headwater/run/v000000001/model.safetensors").unlink()
    publisher.rename(3, "new")
    assert publisher.publish().base_version == 1
    assert follower.poll()
    assert (version_of(follower), follower.num_reloaded, follower.num_failed) == (2, 0, 0)
    assert recommender_of(follower).contains("new")


def test_replicas_made_of_deltas_answer_as_those_made_of_whole_versions(tmp_path: Path) -> None:
    """Whatever is used again of the former replica must not be what has changed since."""
    rng = np.random.default_rng(1)
    publisher = Publisher(tmp_path, cumulative_every=3)
    follower = follower_of(publisher)
    kinds = set()
    for _ in range(20):
        for row in rng.integers(1, len(publisher.ids) + 1, size=rng.integers(0, 4)):
            publisher.rename(int(row), rng.choice(["", f"n{publisher.version}-{row}"]))
        kinds.add(publisher.publish().kind)
        before, former = recommender_of(follower), answers(recommender_of(follower), ["i1", "i2"])
        if rng.random() < 0.7:
            assert follower.poll()
        asked = sorted({*publisher.ids[1:], "i1", "i2", "never"})
        if version_of(follower) == publisher.version:
            whole = Recommender.from_state(SETTINGS, publisher.arrays)
            assert answers(recommender_of(follower), asked) == answers(whole, asked)
        assert answers(before, ["i1", "i2"]) == former
    assert kinds == {"delta"}
    assert follower.num_failed == follower.num_reloaded == 0


def test_an_evicted_id_leaves_with_its_version_and_its_row_never_answers_by_the_old_name(tmp_path: Path) -> None:
    """A film that was taken down would be shown, or another one under its name."""
    publisher = Publisher(tmp_path)
    follower = follower_of(publisher)
    nobody, old = NOBODY, recommender_of(follower)
    shown = dict(old.recommend(nobody, now_ms=0, k=100))
    assert {"i6", "i7"} <= shown.keys()
    publisher.rename(7, "")
    publisher.rename(8, "heir")
    publisher.publish()
    assert follower.poll()
    evicted = recommender_of(follower)
    assert not {"i6", "i7", ""} & dict(evicted.recommend(nobody, now_ms=0, k=100)).keys()
    assert [evicted.contains(item_id) for item_id in ("i6", "i7", "heir", "")] == [False, False, True, False]
    publisher.rename(7, "second")
    publisher.rename(9, "i6")
    publisher.publish()
    assert follower.poll()
    reused = recommender_of(follower)
    listed = dict(reused.recommend(nobody, now_ms=0, k=100))
    assert {"second", "heir", "i6"} <= listed.keys()
    assert not {"i7", "i8"} & listed.keys()
    whole = Recommender.from_state(SETTINGS, publisher.arrays)
    assert listed == dict(whole.recommend(nobody, now_ms=0, k=100))
    # Whoever began with the first replica ends with it.
    assert dict(old.recommend(nobody, now_ms=0, k=100)) == shown


def test_what_answers_and_what_is_held_are_never_changed(tmp_path: Path) -> None:
    """An answer that is being made would be of two versions, and so would the next chain be."""
    publisher = Publisher(tmp_path)
    follower = follower_of(publisher)
    assert follower._held is not None
    held, digest = follower._held.arrays, state_digest(follower._held.arrays)
    publisher.rename(5, "new")
    publisher.publish()
    follower.poll()
    recommender_of(follower).recommend(NOBODY, now_ms=0, k=5)
    assert state_digest(held) == digest


def test_what_does_not_fit_what_is_held_is_read_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Memory that was spoilt once would be the base of everything after."""
    publisher = Publisher(tmp_path)
    follower = follower_of(publisher)
    assert follower._held is not None
    follower._held.arrays["items.weight"][9] += 1
    publisher.rename(3, "new")
    publisher.publish()
    with caplog.at_level(logging.WARNING, "deploy.follower"):
        assert follower.poll()
    assert "must lead to arrays of digest" in caplog.text
    assert "all of its chain is read" in caplog.text
    assert (version_of(follower), follower.num_reloaded, follower.num_failed) == (2, 1, 0)
    whole = Recommender.from_state(SETTINGS, publisher.arrays)
    assert answers(recommender_of(follower), ["new"]) == answers(whole, ["new"])
    publisher.rename(4, "newer")
    publisher.publish()
    assert follower.poll()
    assert follower.num_reloaded == 1


def test_a_chain_with_a_version_missing_leaves_the_former_answering_until_another_fits(tmp_path: Path) -> None:
    """What is missing must neither be guessed nor end the serving."""
    publisher = Publisher(tmp_path, cumulative_every=3, keep=9)
    follower = follower_of(publisher)
    for name in ("two", "three"):
        publisher.rename(3, name)
        publisher.publish()
    assert publisher.store.manifest("run", 3).base_version == 2
    (tmp_path / "headwater/run/v000000002/model.safetensors").unlink()
    assert not follower.poll()
    assert (version_of(follower), follower.num_failed, follower.num_reloaded) == (1, 1, 0)
    assert follower.problem is not None
    assert "v000000002/model.safetensors must have" in follower.problem
    assert publisher.publish().base_version == 1
    assert follower.poll()
    assert (version_of(follower), follower.num_reloaded) == (4, 0)


def test_a_full_version_that_is_damaged_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is no other way to a full version: to read a gigabyte twice helps nobody."""
    publisher = Publisher(tmp_path, full_every=1)
    follower = follower_of(publisher)
    publisher.publish()
    (tmp_path / "headwater/run/v000000002/model.safetensors").write_bytes(b"")
    assert not follower.poll()
    assert "all of its chain is read" not in caplog.text
    assert (version_of(follower), follower.num_failed) == (1, 1)


def test_a_version_that_cannot_answer_never_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to ask would be answered with an error, and everyone after."""
    publisher = Publisher(tmp_path)
    follower = follower_of(publisher)

    def fails(*_: object, **__: object) -> list[tuple[str, float]]:
        raise RuntimeError("no kernel for this")

    publisher.publish()
    with monkeypatch.context() as patched:
        patched.setattr(Recommender, "recommend", fails)
        assert not follower.poll()
    assert (version_of(follower), follower.num_failed) == (1, 1)
    assert follower.problem is not None
    assert "no kernel for this" in follower.problem
