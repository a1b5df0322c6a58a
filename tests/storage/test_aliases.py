"""Aliases: what servers follow is what somebody decided, whatever the learner goes on to publish."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.alias import Alias, Pin, check_alias_name, decode_alias, encode_alias, pinned_versions
from storage.aliases import Aliases, Resolved
from storage.errors import SnapshotError
from storage.manifest import ManifestDraft
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore

GOLDEN = (
    b'{"generation":7,"pinned":{"run_id":"run","version":42,"manifest_sha256":"' + b"0" * 64 + b'"},'
    b'"moved_ms":5,"moved_by":"ada","reason":"v43 is worse"}'
)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SnapshotStore:
    """Two kinds of store: one that cannot compare and write in one step, and one that can."""
    url = {"folder": str(tmp_path / "a b"), "memory": "memory://"}[request.param]
    return SnapshotStore(SnapshotSettings(url=url, keep=2))


@pytest.fixture
def local(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=2))


def publish(store: SnapshotStore, *versions: int, run_id: str = "run") -> None:
    for version in versions:
        arrays = {"weight": np.full(3, version, np.float32)}
        store.publish({"model": arrays, "trainer": arrays}, ManifestDraft(run_id=run_id, version=version))


def answering(aliases: Aliases, name: str = "champion") -> tuple[int, int, bool]:
    """Version, generation, and whether it is pinned."""
    found = aliases.resolve(name)
    assert found is not None
    return found.version, found.generation, found.pinned


def test_an_alias_is_these_bytes() -> None:
    """What one version writes the next one must read."""
    pin = Pin(run_id="run", version=42, manifest_sha256="0" * 64)
    alias = Alias(generation=7, pinned=pin, moved_ms=5, moved_by="ada", reason="v43 is worse")
    assert encode_alias(alias) == GOLDEN
    assert decode_alias(GOLDEN, "here") == alias
    tracking = Alias(generation=8, tracks="latest")
    assert encode_alias(tracking) == b'{"generation":8,"tracks":"latest"}'
    assert decode_alias(encode_alias(tracking), "here") == tracking


def test_where_nobody_has_moved_it_champion_is_the_newest(store: SnapshotStore) -> None:
    """Most stores never see an operator."""
    aliases = Aliases(store)
    assert aliases.resolve("champion") is None
    publish(store, 1, 2)
    pointed = store.pointed()
    assert pointed is not None
    latest, moved_ms = pointed
    assert aliases.resolve("champion") == Resolved(
        generation=0, run_id="run", version=2, manifest_sha256=latest.manifest_sha256, pinned=False, moved_ms=moved_ms
    )
    assert aliases.list() == {"champion": Alias(generation=0, tracks="latest")}


def test_when_an_alias_came_to_stand_for_its_version_is_told(tmp_path: Path) -> None:
    """The time for which an operator held a version would count as the time to fetch the next."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path)))
    aliases = Aliases(store)
    publish(store, 1, 2)
    os.utime(tmp_path / "headwater/latest", (5, 5))

    def moved_ms() -> int:
        found = aliases.resolve("champion")
        assert found is not None
        return found.moved_ms

    assert moved_ms() == 5_000
    aliases.pin("champion", "run", 1, moved_ms=4_000)
    assert moved_ms() == 4_000
    aliases.release("champion", moved_ms=7_000)
    assert moved_ms() == 7_000
    os.utime(tmp_path / "headwater/latest", (8, 8))
    assert moved_ms() == 8_000


def test_a_rollback_holds_while_the_learner_goes_on_and_a_release_ends_it(store: SnapshotStore) -> None:
    """The next publish, seconds later, would undo a rollback that only moved `latest`."""
    aliases = Aliases(store)
    publish(store, 1, 2, 3)
    moved = aliases.pin("champion", "run", 2, moved_ms=9, moved_by="ada", reason="v3 is worse")
    assert (moved.generation, moved.moved_ms, moved.moved_by, moved.reason) == (1, 9, "ada", "v3 is worse")
    assert aliases.get("champion") == moved
    for version in range(4, 10):
        publish(store, version)
        assert answering(aliases) == (2, 1, True)
    found = aliases.resolve("champion")
    assert found is not None
    store.verify(found.run_id, found.version, found.manifest_sha256)
    assert store.versions("run") == [2, 7, 8, 9]
    aliases.release("champion", moved_ms=10)
    assert answering(aliases) == (9, 2, False)
    publish(store, 10)
    assert answering(aliases) == (10, 2, False)
    assert store.versions("run") == [8, 9, 10]


def test_the_generation_rises_with_every_move_whichever_way_it_goes(store: SnapshotStore) -> None:
    """A server tells by it which of two moves is the newer."""
    aliases = Aliases(store)
    publish(store, 1, 2, 3)
    moves: list[Callable[[], Alias]] = [
        lambda: aliases.pin("champion", "run", 2, moved_ms=1),
        lambda: aliases.pin("champion", "run", 1, moved_ms=1),
        lambda: aliases.release("champion", moved_ms=1),
        lambda: aliases.release("champion", moved_ms=1),
        lambda: aliases.pin("champion", "run", 3, moved_ms=1),
    ]
    assert [move().generation for move in moves] == [1, 2, 3, 4, 5]
    assert answering(aliases) == (3, 5, True)


def test_aliases_are_moved_apart(store: SnapshotStore) -> None:
    """A canary that is held back must not hold back everybody."""
    aliases = Aliases(store)
    publish(store, 1, 2)
    with pytest.raises(SnapshotError, match=r"there is no alias canary in .*: pin or release it to make it"):
        aliases.resolve("canary")
    assert aliases.release("canary", moved_ms=1).generation == 1
    aliases.pin("canary", "run", 1, moved_ms=2)
    assert (answering(aliases, "canary"), answering(aliases)) == ((1, 2, True), (2, 0, False))
    assert aliases.list().keys() == {"champion", "canary"}
    assert pinned_versions(store.objects, "headwater") == {("run", 1)}


def test_every_pinned_version_survives_retention_also_one_of_another_run(store: SnapshotStore) -> None:
    """Servers would be left with a name of something that is gone."""
    aliases = Aliases(store)
    publish(store, 1, run_id="old")
    aliases.pin("canary", "old", 1, moved_ms=1)
    publish(store, 1, 2, 3)
    aliases.pin("champion", "run", 1, moved_ms=1)
    publish(store, *range(4, 9))
    assert store.published() == [("old", 1), ("run", 1), ("run", 6), ("run", 7), ("run", 8)]
    store.verify("old", 1)
    store.verify("run", 1)
    assert not [path for path in store.expendable() if "v000000001" in path]


def test_what_may_go_is_what_the_next_publish_would_delete(store: SnapshotStore) -> None:
    """A cleaner by hand must not be bolder than the learner."""
    assert store.expendable() == []
    publish(store, 1, 2, 3)
    assert store.expendable() == []
    Aliases(store).pin("champion", "run", 1, moved_ms=1)
    publish(store, 4, 5)
    Aliases(store).release("champion", moved_ms=2)
    files = ("manifest.json", "model.safetensors", "trainer.safetensors")
    assert store.expendable() == [f"headwater/run/v000000001/{name}" for name in files]


def test_a_version_that_is_not_there_or_damaged_is_never_pinned(local: SnapshotStore, tmp_path: Path) -> None:
    """In an emergency nobody has time to find out that the rollback went nowhere."""
    aliases = Aliases(local)
    publish(local, 1, 2)
    with pytest.raises(SnapshotError, match=r"run/v000000009/manifest.json is not in .*: it was never published"):
        aliases.pin("champion", "run", 9, moved_ms=1)
    (tmp_path / "headwater/run/v000000001/trainer.safetensors").write_bytes(b"short")
    with pytest.raises(SnapshotError, match=r"trainer.safetensors must have \d+ bytes, got 5"):
        aliases.pin("champion", "run", 1, moved_ms=1)
    assert aliases.get("champion").generation == 0
    assert not (tmp_path / "headwater/aliases").exists()


@pytest.mark.parametrize("meanwhile", [False, True], ids=["alone", "moved by another"])
def test_a_version_that_retention_takes_meanwhile_is_not_pinned(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    """A learner that read the aliases just before would delete what they now name."""
    aliases = Aliases(store)
    publish(store, 1, 2)
    swap = store.objects.swap

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(store.objects, "swap", swap)
        store.objects.delete("headwater/run/v000000001/manifest.json")
        swap(*arguments)
        if meanwhile:
            aliases.release("champion", moved_ms=1, moved_by="bob")

    monkeypatch.setattr(store.objects, "swap", late)
    with pytest.raises(SnapshotError, match="it was never published, or is deleted by now"):
        aliases.pin("champion", "run", 1, moved_ms=1)
    assert answering(aliases) == (2, 2, False)
    assert aliases.get("champion").moved_by == ("bob" if meanwhile else "")


def test_a_move_that_another_made_meanwhile_is_not_written_over(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operators: the second would undo the first one's decision without having seen it."""
    for made in (False, True):
        aliases, other = Aliases(store), Aliases(store)
        publish(store, *((4, 5) if made else (1, 2)))
        verify = store.verify

        def meanwhile(*arguments: Any, other: Aliases = other, verify: Any = verify) -> Any:
            other.release("champion", moved_ms=1, moved_by="bob")
            return verify(*arguments)

        monkeypatch.setattr(store, "verify", meanwhile)
        with pytest.raises(SnapshotError, match=r"aliases/champion in .* was changed by another meanwhile: look at it"):
            aliases.pin("champion", "run", 5 if made else 2, moved_ms=1)
        monkeypatch.setattr(store, "verify", verify)
        assert aliases.get("champion").moved_by == "bob"
    assert aliases.get("champion").generation == 2


def test_an_alias_that_was_deleted_meanwhile_is_not_made_again(store: SnapshotStore) -> None:
    """Its generation would go on from one that nobody knows any more."""
    tagged = Aliases(store).release("champion", moved_ms=1)
    found = store.objects.get_tagged("headwater/aliases/champion", 1_000)
    assert found is not None
    assert found.value == encode_alias(tagged)
    store.objects.delete("headwater/aliases/champion")
    with pytest.raises(SnapshotError, match="changed by another meanwhile"):
        store.objects.swap("headwater/aliases/champion", b"{}", found)


SHA = "0" * 64
PIN = {"run_id": "run", "version": 1, "manifest_sha256": SHA}
HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "no json": b"\xff\x00",
    "deep": b"[" * 60_000,
    "list": b"[]",
    "no generation": b'{"tracks":"latest"}',
    "negative": b'{"generation":-1,"tracks":"latest"}',
    "neither": b'{"generation":1}',
    "both": json.dumps({"generation": 1, "tracks": "latest", "pinned": PIN}).encode(),
    "another": b'{"generation":1,"tracks":"canary"}',
    "path": json.dumps({"generation": 1, "pinned": PIN | {"run_id": "../../etc"}}).encode(),
    "reserved": json.dumps({"generation": 1, "pinned": PIN | {"run_id": "aliases"}}).encode(),
    "version": json.dumps({"generation": 1, "pinned": PIN | {"version": 10**12}}).encode(),
    "hash": json.dumps({"generation": 1, "pinned": PIN | {"manifest_sha256": "x"}}).encode(),
    "escape": json.dumps({"generation": 1, "tracks": "latest", "reason": "\x1b[2J"}).encode(),
    "long": json.dumps({"generation": 1, "tracks": "latest", "reason": "x" * 1_001}).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_alias_is_one_clear_error_and_nothing_is_deleted(
    local: SnapshotStore, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it was pinned to is not known: guessing would serve or delete the wrong version."""
    publish(local, 1, 2, 3)
    local.objects.put("headwater/aliases/champion", HOSTILE[name])
    aliases = Aliases(local)
    tries: list[Callable[[], object]] = [
        lambda: aliases.resolve("champion"),
        lambda: aliases.pin("champion", "run", 2, moved_ms=1),
        lambda: aliases.release("champion", moved_ms=1),
        aliases.list,
        local.expendable,
    ]
    for attempt in tries:
        with pytest.raises(SnapshotError, match=r"headwater/aliases/champion is no alias: .*; mend or delete it"):
            attempt()
    publish(local, 4, 5)
    assert local.versions("run") == [1, 2, 3, 4, 5]
    assert "no version is deleted, for nobody knows what is pinned: headwater/aliases/champion" in caplog.text


def test_a_huge_alias_is_not_read(local: SnapshotStore) -> None:
    """A gigabyte in its place would end every server."""
    publish(local, 1)
    local.objects.put("headwater/aliases/champion", b" " * 65_537)
    with pytest.raises(SnapshotError, match="headwater/aliases/champion must be at most 65536 bytes, got 65537"):
        Aliases(local).resolve("champion")
    with pytest.raises(SnapshotError, match="headwater/aliases/champion must be at most 65536 bytes, got 65537"):
        local.expendable()


def test_an_alias_of_an_unknown_version_names_it(local: SnapshotStore) -> None:
    """A store that was copied without its versions."""
    publish(local, 1)
    local.objects.put(
        "headwater/aliases/champion", json.dumps({"generation": 3, "pinned": PIN | {"version": 8}}).encode()
    )
    found = Aliases(local).resolve("champion")
    assert found is not None
    with pytest.raises(SnapshotError, match=r"run/v000000008/manifest.json is not in"):
        local.verify(found.run_id, found.version, found.manifest_sha256)


def test_what_no_alias_can_be_called_is_nobodys_alias(local: SnapshotStore) -> None:
    """A file that an editor left must stop neither the learner nor the list."""
    for name in (".champion.swp", "Champion", "champion~"):
        local.objects.put(f"headwater/aliases/{name}", b"no alias")
    publish(local, 1, 2, 3, 4)
    assert local.versions("run") == [2, 3, 4]
    assert Aliases(local).list().keys() == {"champion"}


@pytest.mark.parametrize("name", ["", "a/b", "../champion", "Champion", "1st", "x" * 65, "champion\n"])
def test_a_name_that_no_alias_can_have_is_refused(store: SnapshotStore, name: str) -> None:
    """It comes from a flag or a settings file, and becomes a path."""
    aliases = Aliases(store)
    tries: list[Callable[[], object]] = [
        lambda: check_alias_name(name),
        lambda: aliases.resolve(name),
        lambda: aliases.release(name, moved_ms=1),
        lambda: aliases.pin(name, "run", 1, moved_ms=1),
    ]
    for attempt in tries:
        with pytest.raises(ValueError, match="alias must be 1 to 64 of a-z, 0-9, - and _ and begin with a letter, got"):
            attempt()


@pytest.mark.parametrize("reason", ["two\nlines", "\x1b[31mred", "x" * 1_001])
def test_a_reason_that_is_no_line_is_refused(store: SnapshotStore, reason: str) -> None:
    """It is shown in terminals."""
    publish(store, 1)
    with pytest.raises(ValueError, match="an alias' values must keep their limits"):
        Aliases(store).pin("champion", "run", 1, moved_ms=1, reason=reason)
    with pytest.raises(ValueError, match="an alias' values must keep their limits"):
        Aliases(store).release("champion", moved_ms=1, reason=reason)
    assert Aliases(store).get("champion").generation == 0
