"""Whatever happens to a table, a trainer and a reader, what is loaded is what was published, bit for bit."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from storage.chain import Held
from storage.objects import Objects
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.storage.made_table import Files, MadeTable, assert_loads, assert_same, draft

OPERATIONS = ("insert", "update", "link", "evict", "reuse", "shrink", "lag", "touch_all")


class Chains(RuleBasedStateMachine):
    """One store, a trainer that restarts now and then, a reader that misses, repeats and reorders versions."""

    @initialize(
        seed=st.integers(0, 2**32),
        rows=st.integers(0, 40),
        keep=st.integers(0, 3),
        full_every=st.integers(1, 12),
        cumulative_every=st.integers(1, 5),
        share=st.sampled_from([0.1, 0.5, 100.0]),
    )
    def begin(self, seed: int, rows: int, keep: int, full_every: int, cumulative_every: int, share: float) -> None:
        self.settings = SnapshotSettings(
            url="memory://",
            keep=keep,
            full_every=full_every,
            cumulative_every=cumulative_every,
            max_delta_share=share,
        )
        self.table = MadeTable(seed, rows)
        self.trainer = SnapshotStore(self.settings)
        self.objects = self.trainer._objects
        self.run, self.version = 0, 0
        self.published: dict[tuple[str, int], Files] = {}
        self.held: dict[str, Held] = {}
        self.restart_reader()

    @rule(operations=st.lists(st.sampled_from(OPERATIONS), max_size=6))
    def happen(self, operations: list[str]) -> None:
        for operation in operations:
            getattr(self.table, operation)()

    @rule(step=st.integers(1, 2), times=st.integers(1, 4))
    def publish(self, step: int, times: int) -> None:
        for _ in range(times):
            self.version += step
            self.table.update()
            files = self.table.files()
            self.trainer.publish(files, draft(self.version, f"run{self.run}"))
            self.published[f"run{self.run}", self.version] = files

    @rule()
    def restart_trainer(self) -> None:
        self.trainer = SnapshotStore(self.settings)
        self.trainer._objects = self.objects

    @rule()
    def begin_another_run(self) -> None:
        self.run, self.version = self.run + 1, 0

    @rule()
    def restart_reader(self) -> None:
        self.reader = SnapshotStore(self.settings)
        self.reader._objects = self.objects
        self.held.clear()

    @precondition(lambda self: self.published)
    @rule(data=st.data(), name=st.sampled_from(["model", "trainer"]))
    def follow(self, data: st.DataObject, name: str) -> None:
        run_id, version = data.draw(st.sampled_from(sorted(self.published)))
        if version not in self.reader.versions(run_id):
            return
        held = self.held.get(name)
        before = {key: array.tobytes() for key, array in held.arrays.items()} if held else {}
        manifest = self.reader.manifest(run_id, version)
        arrays = self.reader.load(manifest, name, held)
        assert_same(arrays, self.published[run_id, version][name])
        if held:
            assert {key: array.tobytes() for key, array in held.arrays.items()} == before
        self.held[name] = Held(manifest, arrays)

    @invariant()
    def every_version_that_is_there_can_be_loaded(self) -> None:
        for run in range(self.run + 1):
            for version in self.reader.versions(f"run{run}"):
                manifest = self.reader.manifest(f"run{run}", version)
                for name, arrays in self.published[f"run{run}", version].items():
                    assert_same(self.reader.load(manifest, name), arrays)

    @invariant()
    def only_what_is_kept_and_its_bases_is_there(self) -> None:
        pointer = self.reader.latest()
        if pointer is None:
            return
        there = {(f"run{run}", version) for run in range(self.run + 1) for version in self.reader.versions(f"run{run}")}
        bases = {(run_id, self.reader.manifest(run_id, version).base_version) for run_id, version in there}
        assert (pointer.run_id, pointer.version) in there
        assert len(there - bases) <= self.settings.keep + 1
        files = {listed.path.rsplit("/", 1)[0] for listed in self.objects.list("headwater") if "/v" in listed.path}
        assert files == {f"headwater/{run_id}/v{version:09d}" for run_id, version in there}


DYING = ("put", "create", "list", "delete", "get")


class DyingObjects(Objects):
    """Dies at the n-th call."""

    def __init__(self, url: str, lives: int) -> None:
        super().__init__(url)
        self.lives = lives

    def __getattribute__(self, name: str) -> Any:
        if name in DYING:
            self.lives -= 1
            if self.lives < 0:
                raise KeyboardInterrupt
        return super().__getattribute__(name)


def publish_twenty(url: str, first: int, table: MadeTable, lives: int | None) -> dict[int, Files]:
    """Files of each version that a trainer publishes until it dies, if it does."""
    store = SnapshotStore(SnapshotSettings(url=url, keep=1, full_every=7, cumulative_every=3, max_delta_share=1e9))
    if lives is not None:
        store._objects = DyingObjects(url, lives)
    told: dict[int, Files] = {}
    with suppress(KeyboardInterrupt):
        for version in range(first, first + 20):
            table.reuse()
            table.insert()
            told[version] = table.files()
            store.publish(told[version], draft(version))
    return told


@pytest.mark.parametrize("seed", range(4))
def test_a_trainer_may_die_at_any_call_of_any_publish(tmp_path: Path, seed: int) -> None:
    """What the pointer names can always be loaded, what is there can be loaded, and nothing is left over at last."""
    for lives in range(seed, 150, 4):
        url, table = str(tmp_path / str(lives)), MadeTable(seed, 20)
        told = publish_twenty(url, 1, table, lives)
        store = SnapshotStore(SnapshotSettings(url=url))
        pointer, versions = store.latest(), store.versions("run")
        assert pointer is None or pointer.version in versions
        for version in versions:
            assert_loads(store, version, told[version])
        following = max(told) + 1
        told |= publish_twenty(url, following, table, None)
        for version in store.versions("run"):
            assert_loads(store, version, told[version])
        assert store.versions("run") == versions_kept(following)
        files = [path for path in (tmp_path / str(lives)).rglob("*") if path.is_file()]
        assert len(files) == 3 * len(versions_kept(following)) + 1


def versions_kept(first: int) -> list[int]:
    """After twenty versions of which every seventh is full: two deltas, a cumulative one and what these need."""
    return [first + place for place in (14, 17, 18, 19)]


TestChains = Chains.TestCase
TestChains.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
