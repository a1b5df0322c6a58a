"""`headwater snapshots`: what each verb does, prints, writes as JSON and refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deploy.cli import app
from storage.aliases import Aliases
from storage.errors import SnapshotError
from storage.manifest import ManifestDraft, Table
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a verb on the default store of an empty folder; gives exit code, output and the JSON file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "ada")

    def command(*arguments: str) -> SimpleNamespace:
        tokens = ["snapshots", *arguments, "--json", "out.json"]
        code = app(tokens, exit_on_error=False, result_action="return_value")
        figures = json.loads((tmp_path / "out.json").read_text())
        return SimpleNamespace(code=code, out=capsys.readouterr().out, json=figures)

    return command


@pytest.fixture
def store(run: Run) -> SnapshotStore:
    """The store that the verbs find by default; `run` has made the folder the current one."""
    return SnapshotStore(SnapshotSettings(keep=2))


def publish(store: SnapshotStore, version: int, run_id: str = "run", **fields: Any) -> None:
    weight = np.full((2 + version, 2), 1.0, np.float32)
    weight[0] = version
    arrays: dict[str, npt.NDArray[Any]] = {
        "items.weight": weight,
        "same": np.ones(3),
        "scalar": np.array(version, np.uint8),
    }
    draft: dict[str, Any] = {
        "created_ms": 1_000 * version,
        "tables": {"items": Table(rows=2 + version, dim=2, dtype="float32")},
    }
    draft |= {"metrics": {"events": 1_000.0 * version, "hit_rate": 0.1, "window_hit_rate_all": 0.25}, "step": 7}
    store.publish(
        {"model": arrays, "trainer": {"step": np.array(version)}},
        ManifestDraft(run_id=run_id, version=version, **(draft | fields)),
    )


def champion(store: SnapshotStore, name: str = "champion") -> str:
    found = Aliases(store).resolve(name)
    assert found is not None
    return f"{found.run_id}/v{found.version}{' pinned' if found.pinned else ''} {found.generation}"


def damage(store: SnapshotStore, version: int, file: str = "model.safetensors") -> None:
    path = Path(store.settings.url) / f"headwater/run/v{version:09d}/{file}"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def test_ls_shows_versions_figures_and_what_points_to_them(run: Run, store: SnapshotStore) -> None:
    """Who has to roll back looks here first: to what, and since when it was worse."""
    publish(store, 9, "old")
    for version in (10, 11, 12):
        publish(store, version)
    Aliases(store).pin("champion", "run", 11, moved_ms=90_061_000, moved_by="ada", reason="[red] v12 is worse")
    Aliases(store).release("canary", moved_ms=1)
    ended = run("ls")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split() == [
        "version",
        "kind",
        "bytes",
        "created",
        "(UTC)",
        "step",
        "events",
        "HR@10",
        "now",
        "HR@10",
        "what",
        "points",
        "to",
        "it",
    ]
    size = store.manifest("run", 12).files[0].bytes + store.manifest("run", 12).files[1].bytes
    first = f"run/v12 full {size} 1970-01-01 00:00:12 7 12,000 0.250 0.100 latest, canary"
    assert lines[1].split() == first.split()
    assert [line.split()[0] for line in lines[1:4]] == ["run/v12", "run/v11", "run/v10"]
    assert lines[2].endswith("champion (pinned)")
    assert "champion pinned to run/v11, generation 1, moved 1970-01-02 01:01:01 UTC by ada: [red] v12 is worse" in lines
    assert [(row["version"], row["pointed_by"]) for row in ended.json["versions"]] == [
        (12, ["latest", "canary"]),
        (11, ["champion (pinned)"]),
        (10, []),
    ]
    assert ended.json["aliases"]["champion"]["pinned"]["version"] == 11
    assert (ended.json["versions"][0]["bytes"], ended.json["versions"][0]["events"]) == (size, 12_000.0)


def test_ls_of_an_empty_store_says_that_champion_is_the_newest(run: Run) -> None:
    ended = run("ls")
    assert ended.code == 0
    assert "champion tracks latest" in ended.out
    assert ended.json["versions"] == []


def test_ls_shows_what_is_damaged_and_goes_on(run: Run, store: SnapshotStore) -> None:
    """The list is what one needs when something is damaged."""
    publish(store, 1)
    publish(store, 2)
    damage(store, 1, "manifest.json")
    store.objects.put("headwater/aliases/champion", b"{")
    ended = run("ls")
    assert ended.code == 0
    assert "run/v1   damaged" in ended.out
    assert "headwater/aliases/champion is no alias" in ended.out
    assert [row["problem"] is None for row in ended.json["versions"]] == [True, False]
    assert "is no alias" in ended.json["problem"]


def test_a_version_that_goes_while_it_is_listed_is_not_called_damaged(
    run: Run, store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learner deletes every few seconds: an alarm a minute is one that nobody reads."""
    publish(store, 1)
    publish(store, 2)
    published = SnapshotStore.published

    def then_delete(self: SnapshotStore) -> list[tuple[str, int]]:
        found = published(self)
        self.objects.delete("headwater/run/v000000001/manifest.json")
        return found

    monkeypatch.setattr(SnapshotStore, "published", then_delete)
    ended = run("verify", "--all")
    assert (ended.code, [each["version"] for each in ended.json]) == (0, [2])
    publish(store, 1)
    assert [row["version"] for row in run("ls").json["versions"]] == [2]


def test_verify_reads_what_is_named_and_ends_with_1_where_it_is_damaged(run: Run, store: SnapshotStore) -> None:
    """A flipped bit is found before it is needed."""
    for version in (1, 2, 3):
        publish(store, version)
    Aliases(store).pin("champion", "run", 1, moved_ms=1)
    ended = run("verify")
    assert ended.code == 0
    assert [each["version"] for each in ended.json] == [1, 3]
    assert "2 of 2 whole" in ended.out
    assert f"run/v1  whole, {ended.json[0]['bytes']} bytes in model, trainer" in ended.out
    damage(store, 2)
    assert run("verify").code == 0
    assert run("verify", "v3", "1").code == 0
    for arguments in (["--all"], ["v2"], ["3", "run/v2"]):
        ended = run("verify", *arguments)
        assert ended.code == 1
        assert "run/v2  damaged: headwater/run/v000000002/model.safetensors must have xxh3-128" in ended.out
    ended = run("verify", "v7")
    assert ended.code == 1
    assert "run/v7  damaged: headwater/run/v000000007/manifest.json is not in" in ended.out


def test_verify_finds_a_damaged_trainer_file_too(run: Run, store: SnapshotStore) -> None:
    """A version is what training goes on from."""
    publish(store, 1)
    damage(store, 1, "trainer.safetensors")
    assert run("verify", "--all").code == 1


def test_a_rollback_goes_one_back_each_time_and_a_release_to_the_newest(run: Run, store: SnapshotStore) -> None:
    """In an emergency nobody wants to look up numbers."""
    for version in (1, 2, 3):
        publish(store, version)
    ended = run("rollback", "--reason", "v3 is worse")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "champion: run/v3 -> run/v2, pinned, generation 1",
        "the learner goes on publishing; servers answer with run/v2 until: headwater snapshots release",
    ]
    assert (ended.json["from"], ended.json["to"], ended.json["generation"]) == ("run/v3", "run/v2", 1)
    assert (ended.json["reason"], ended.json["moved_by"]) == ("v3 is worse", "ada")
    assert champion(store) == "run/v2 pinned 1"
    assert run("rollback").out.startswith("champion: run/v2 -> run/v1, pinned, generation 2")
    with pytest.raises(SnapshotError, match="no version before run/v1 is left in its run: name one"):
        run("rollback")
    publish(store, 4)
    ended = run("release", "--reason", "mended")
    assert ended.out.splitlines() == ["champion: run/v1 -> run/v4, tracks latest, generation 3"]
    assert champion(store) == "run/v4 3"
    assert (ended.json["to"], ended.json["tracks"], ended.json["reason"]) == ("run/v4", "latest", "mended")


@pytest.mark.parametrize(
    ("text", "named"), [("v2", "run/v2"), ("2", "run/v2"), ("run/2", "run/v2"), ("old/v9", "old/v9")]
)
def test_a_version_is_named_in_three_ways(run: Run, store: SnapshotStore, text: str, named: str) -> None:
    """What `ls` prints can be typed, and what people say, too."""
    publish(store, 9, "old")
    Aliases(store).pin("canary", "old", 9, moved_ms=1)
    for version in (1, 2, 3):
        publish(store, version)
    run("rollback", text)
    assert champion(store) == f"{named} pinned 1"


def test_another_alias_is_moved_by_its_name(run: Run, store: SnapshotStore) -> None:
    """A misspelt name would leave the champion as it is: it is said that the name is new."""
    for version in (1, 2, 3):
        publish(store, version)
    ended = run("rollback", "--alias", "canary")
    assert ended.out.splitlines() == [
        "canary: run/v3 -> run/v2, pinned, generation 1",
        "canary is new: servers follow it that are started with --serve.alias canary",
        "the learner goes on publishing; servers answer with run/v2 until: headwater snapshots release --alias canary",
    ]
    assert (champion(store), champion(store, "canary")) == ("run/v3 0", "run/v2 pinned 1")
    assert "is new" not in run("release", "--alias", "canary").out
    assert "shadow is new" in run("release", "--alias", "shadow").out


def test_what_cannot_be_rolled_back_to_moves_nothing(run: Run, store: SnapshotStore) -> None:
    """A pin to what nobody can load would leave the bad version answering."""
    with pytest.raises(SnapshotError, match=r"nothing is published yet in \.headwater/snapshots, model headwater"):
        run("rollback")
    with pytest.raises(SnapshotError, match="nothing is published yet"):
        run("release")
    for version in (1, 2, 3):
        publish(store, version)
    damage(store, 2)
    with pytest.raises(SnapshotError, match=r"v000000002/model.safetensors must have xxh3-128"):
        run("rollback")
    with pytest.raises(SnapshotError, match=r"v000000008/manifest.json is not in"):
        run("rollback", "v8")
    assert champion(store) == "run/v3 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rollback", "newest"], "a version must be like v42, 42 or RUN/v42, got 'newest'"),
        (["rollback", "../v1"], r"a version must be like v42, 42 or RUN/v42, got '\.\./v1'"),
        (["rollback", "v1234567890"], "a version must be like v42"),
        (["rollback", "run/v1", "--alias", "../x"], "alias must be 1 to 64 of a-z"),
        (["release", "--alias", "X"], "alias must be 1 to 64 of a-z"),
        (["rollback", "run/v1", "--reason", "x" * 1_001], "an alias' values must keep their limits"),
        (["verify", "--all", "v1"], "name versions or give --all, not both"),
        (["verify", "x y"], "a version must be like v42"),
        (["diff", "v1", "vv"], "a version must be like v42, 42 or RUN/v42, got 'vv'"),
    ],
)
def test_what_was_typed_wrongly_is_said(run: Run, store: SnapshotStore, arguments: list[str], message: str) -> None:
    """One line that names what is allowed."""
    publish(store, 1)
    with pytest.raises(ValueError, match=message):
        run(*arguments)
    assert champion(store) == "run/v1 0"


def test_gc_deletes_what_retention_allows_and_nothing_else(run: Run, store: SnapshotStore) -> None:
    """What is pinned, and what is kept, must survive a cleaner in a hurry."""
    for version in range(1, 4):
        publish(store, version)
    Aliases(store).pin("champion", "run", 2, moved_ms=1)
    roomy = SnapshotStore(SnapshotSettings(keep=9))
    for version in range(4, 8):
        publish(roomy, version)
    flags = ("--snapshots.keep", "1")
    ended = run("gc", "--dry-run", *flags)
    gone = [1, 3, 4, 5]
    names = ("manifest.json", "model.safetensors", "trainer.safetensors")
    paths = [f"headwater/run/v{version:09d}/{name}" for version in sorted(gone, reverse=True) for name in names]
    assert ended.out.splitlines() == [*paths, "12 files would be deleted"]
    assert ended.json == {"dry_run": True, "paths": paths}
    assert store.versions("run") == list(range(1, 8))
    ended = run("gc", *flags)
    assert ended.out.splitlines()[-1] == "12 files deleted"
    assert store.versions("run") == [2, 6, 7]
    assert run("gc", *flags).json["paths"] == []
    store.objects.put("headwater/aliases/champion", b"{")
    with pytest.raises(SnapshotError, match="is no alias"):
        run("gc", *flags)


def test_gc_of_a_store_that_keeps_nothing_else_spares_what_is_being_published(
    run: Run, store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest is written before the pointer moves: a cleaner in between would leave the pointer to nothing."""
    publish(store, 1)
    with monkeypatch.context() as patched:
        patched.setattr(SnapshotStore, "_point", lambda *_: None)
        patched.setattr(SnapshotStore, "_retire", lambda *_: None)
        publish(store, 2)
    run("gc", "--snapshots.keep", "0")
    assert store.versions("run") == [1, 2]


def test_diff_tells_arrays_rows_and_figures(run: Run, store: SnapshotStore) -> None:
    """What changed between a good version and a bad one."""
    publish(store, 1)
    publish(store, 3, metrics={"hit_rate": 0.4, "new": 2.0})
    ended = run("diff", "v1", "run/v3")
    assert ended.code == 0
    assert "A is run/v1, B is run/v3: 2 of 3 arrays of model differ" in ended.out
    assert "table items: 3 rows in A, 5 in B; 1 of both differ" in ended.out
    (row,) = [line for line in ended.out.splitlines() if line.startswith("items.weight")]
    assert row.split() == ["items.weight", "[3,", "2]", "[5,", "2]", "1", "2"]
    assert ended.json["arrays"] == [
        {"name": "items.weight", "shape_a": [3, 2], "shape_b": [5, 2], "num_rows": 1, "max_difference": 2.0},
        {"name": "scalar", "shape_a": [], "shape_b": [], "num_rows": 1, "max_difference": 2.0},
    ]
    assert ended.json["metrics"]["hit_rate"] == [0.1, 0.4]
    assert ended.json["metrics"]["new"] == [None, 2.0]
    (row,) = [line for line in ended.out.splitlines() if line.startswith("hit_rate")]
    assert row.split() == ["hit_rate", "0.1", "0.4", "+0.3"]
    assert run("diff", "1", "3", "--file", "trainer").json["arrays"][0]["name"] == "step"
    assert run("diff", "3", "3").json["arrays"] == []
    with pytest.raises(SnapshotError, match="run/v1 has no file 'tokens': it has model, trainer"):
        run("diff", "1", "3", "--file", "tokens")
    with pytest.raises(SnapshotError, match=r"v000000009/manifest.json is not in"):
        run("diff", "1", "9")
