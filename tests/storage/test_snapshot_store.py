import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from storage.errors import SnapshotError, SnapshotExistsError
from storage.manifest import Manifest, ManifestDraft
from storage.objects import Objects
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore

GOLDEN_MODEL = (
    b'\x40\x00\x00\x00\x00\x00\x00\x00{"weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}   '
    b"\x00\x00\x80?\x00\x00\x00\xc0"
)


@pytest.fixture(params=["folder", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SnapshotStore:
    """The same store behind every URL that is tested."""
    url = {"folder": f"{tmp_path}/a b", "file": f"file://{tmp_path}/a%20b", "memory": "memory://"}[request.param]
    return SnapshotStore(SnapshotSettings(url=url, keep=2))


@pytest.fixture
def local(tmp_path: Path) -> SnapshotStore:
    """A store in the test's folder."""
    return SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=2))


def weights(value: float = 1.0) -> dict[str, dict[str, npt.NDArray[Any]]]:
    return {"trainer": {"step": np.array(3)}, "model": {"weight": np.array([[value], [-2.0]], np.float32)}}


def draft(version: int, run_id: str = "run", **fields: Any) -> ManifestDraft:
    return ManifestDraft(run_id=run_id, version=version, **fields)


def test_what_is_published_is_found_and_loaded(store: SnapshotStore) -> None:
    """The whole path of a version, from trainer to server."""
    assert store.latest() is None
    assert store.versions("run") == []
    published = store.publish(weights(), draft(1, step=9, learned_kafka_ms=[(5, 2)]))
    pointer = store.latest()
    assert pointer is not None
    assert (pointer.generation, pointer.run_id, pointer.version) == (1, "run", 1)
    manifest = store.manifest("run", 1, pointer.manifest_sha256)
    assert manifest == published
    assert [file.name for file in manifest.files] == ["model", "trainer"]
    np.testing.assert_array_equal(store.load(manifest, "model")["weight"], weights()["model"]["weight"])
    assert store.load(manifest, "trainer")["step"].item() == 3


def test_arrays_come_back_with_type_shape_and_values_whatever_their_layout(store: SnapshotStore) -> None:
    """A transposed view written as it lies in memory would come back as another matrix."""
    matrix = np.arange(6, dtype=np.int64).reshape(2, 3)
    arrays: dict[str, npt.NDArray[Any]] = {
        "turned": matrix.T,
        "strided": matrix[:, ::2],
        "empty": np.zeros((0, 4), np.float16),
        "bytes": np.frombuffer(b"ids", np.uint8),
        "flags": np.array([True, False]),
    }
    loaded = store.load(store.publish({"model": arrays}, draft(0)), "model")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_a_file_is_these_bytes(local: SnapshotStore, tmp_path: Path) -> None:
    """Anyone with a safetensors reader can read a snapshot, in ten years too."""
    local.publish(weights(), draft(42))
    assert (tmp_path / "headwater/run/v000000042/model.safetensors").read_bytes() == GOLDEN_MODEL


def test_versions_that_nothing_needs_go_and_the_generation_rises(store: SnapshotStore) -> None:
    """Snapshots every few seconds fill a disk in a night."""
    for version in range(1, 8):
        store.publish(weights(version), draft(version))
    assert store.versions("run") == [5, 6, 7]
    pointer = store.latest()
    assert pointer is not None
    assert pointer.generation == 7
    assert all("/v00000000" + str(n) in str(store._objects.list("headwater")) for n in (5, 6, 7))
    assert len(store._objects.list("headwater")) == 3 * 3 + 1


def test_versions_of_other_runs_go_by_age(store: SnapshotStore) -> None:
    """A trainer that restarts with a new run must not leave the old ones for ever."""
    for version in (1, 2, 3):
        store.publish(weights(), draft(version, "old"))
    store.publish(weights(), draft(1, "new"))
    assert store.versions("old") == [2, 3]
    store.publish(weights(), draft(2, "new"))
    assert (store.versions("old"), store.versions("new")) == ([3], [1, 2])
    pointer = store.latest()
    assert pointer is not None
    assert (pointer.run_id, pointer.generation) == ("new", 5)


def test_a_version_is_published_once(store: SnapshotStore) -> None:
    """Two trainers on one run: the second must stop, and spoil nothing."""
    first = store.publish(weights(1.0), draft(1))
    with pytest.raises(
        SnapshotExistsError, match=r"v000000001/manifest.json is already in .*: publish a higher version"
    ):
        store.publish(weights(9.0), draft(1))
    assert store.load(first, "model")["weight"][0, 0] == 1.0
    with pytest.raises(SnapshotExistsError, match="another trainer publishes this run; stop one of them"):
        store._objects.create("headwater/run/v000000001/manifest.json", b"{}")


class DyingObjects(Objects):
    """Dies at the n-th write, list or deletion."""

    def __init__(self, url: str, lives: int) -> None:
        super().__init__(url)
        self.lives = lives

    def __getattribute__(self, name: str) -> Any:
        if name in ("put", "create", "list", "delete"):
            self.lives -= 1
            if self.lives < 0:
                raise KeyboardInterrupt
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("lives", "versions", "named"),
    [(0, [1, 2], 2), (1, [1, 2], 2), (2, [1, 2], 2), (3, [1, 2, 3], 2), (4, [1, 2, 3], 3), (6, [1, 2, 3], 3)],
)
def test_publishing_may_die_at_any_step(tmp_path: Path, lives: int, versions: list[int], named: int) -> None:
    """The pointer always names a whole version, and the trainer that comes after goes on."""
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=1))
    store.publish(weights(1), draft(1))
    store.publish(weights(2), draft(2))
    store._objects = DyingObjects(str(tmp_path), lives)
    with pytest.raises(KeyboardInterrupt):
        store.publish(weights(3), draft(3))
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=1))
    pointer = store.latest()
    assert pointer is not None
    assert pointer.version == named
    assert store.versions("run") == versions
    manifest = store.manifest(pointer.run_id, pointer.version, pointer.manifest_sha256)
    assert store.load(manifest, "model")["weight"][0, 0] == named
    following = versions[-1] + 1
    store.publish(weights(following), draft(following))
    assert store.versions("run") == [following - 1, following]
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_files_left_by_a_crash_go_with_the_next_publish_of_the_run(local: SnapshotStore, tmp_path: Path) -> None:
    """What has no manifest is visible to nobody, so nobody else would ever delete it."""
    local._objects.put("headwater/run/v000000003/model.safetensors", b"half")
    local._objects.put("headwater/other/v000000003/model.safetensors", b"being written just now")
    local.publish(weights(), draft(4))
    assert not (tmp_path / "headwater/run/v000000003").exists()
    assert (tmp_path / "headwater/other/v000000003/model.safetensors").exists()


Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "truncated": (lambda value: value[:-1], "must have 80 bytes, got 79 bytes"),
    "empty": (lambda value: b"", "must have 80 bytes, got 0 bytes"),
    "longer": (lambda value: value + b"\0", "must be at most 80 bytes, got 81"),
    "flipped": (lambda value: value[:75] + bytes([value[75] ^ 1]) + value[76:], "must have xxh3-128 [0-9a-f]{32}, got"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_never_loaded(local: SnapshotStore, tmp_path: Path, damage: str) -> None:
    """Wrong weights give wrong answers without any error."""
    manifest = local.publish(weights(), draft(1))
    path = tmp_path / "headwater/run/v000000001/model.safetensors"
    change, message = DAMAGES[damage]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SnapshotError, match=f"headwater/run/v000000001/model.safetensors {message}"):
        local.load(manifest, "model")


def publish_bytes(store: SnapshotStore, monkeypatch: pytest.MonkeyPatch, value: bytes) -> Manifest:
    """A version whose file and checksum agree and whose file is not what it should be."""
    with monkeypatch.context() as patched:
        patched.setattr("storage.snapshot_store.save", lambda arrays: value)
        return store.publish({"model": {}}, draft(1))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"no",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 200_000_000) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 63) + b'{"a":{"dtype":"F32","shape":[99999999],"data_offsets":[0,4]}}  ' + bytes(4),
        struct.pack("<Q", 63) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[900,904]}}     ' + bytes(4),
    ],
)
def test_a_hostile_safetensors_file_is_refused(
    local: SnapshotStore, monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    """A checksum says who wrote a file, not that it can be trusted with memory."""
    manifest = publish_bytes(local, monkeypatch, value)
    with pytest.raises(SnapshotError, match=r"model\.safetensors is no safetensors file"):
        local.load(manifest, "model")


def test_what_is_absent_is_named(store: SnapshotStore) -> None:
    """A server that asks for what retention has deleted must be able to say so."""
    manifest = store.publish(weights(), draft(1))
    with pytest.raises(
        SnapshotError, match=r"v000000009/manifest.json is not in .*: it was never published, or is deleted"
    ):
        store.manifest("run", 9)
    with pytest.raises(SnapshotError, match="run/v1 has no file 'tokens': it has model, trainer"):
        store.load(manifest, "tokens")
    store._objects.delete("headwater/run/v000000001/model.safetensors")
    with pytest.raises(SnapshotError, match=r"model\.safetensors must have 80 bytes, got none"):
        store.load(manifest, "model")


def test_a_manifest_that_is_not_the_named_one_is_refused(local: SnapshotStore) -> None:
    """A manifest from another place would load that one's files under this one's name."""
    local.publish(weights(), draft(1))
    local.publish(weights(), draft(2))
    with pytest.raises(SnapshotError, match=r"must have sha256 0000, got [0-9a-f]{64}"):
        local.manifest("run", 2, "0000")
    local._objects.put(
        "headwater/run/v000000002/manifest.json",
        local._objects.get("headwater/run/v000000001/manifest.json", 10_000) or b"",
    )
    with pytest.raises(SnapshotError, match=r"v000000002/manifest.json is the manifest of run/v1"):
        local.manifest("run", 2)


def test_names_from_outside_stay_inside_the_store(store: SnapshotStore, tmp_path: Path) -> None:
    """A run id or file name may come from a request or a manifest."""
    before = sorted(tmp_path.rglob("*"))
    for files, run_id in ((weights(), "../up"), (weights(), "a/b"), ({"../model": {}}, "run"), ({"A": {}}, "run")):
        with pytest.raises(ValueError, match="a manifest's values must keep their limits"):
            store.publish(files, draft(1, run_id))
    with pytest.raises(SnapshotError, match="cannot be read"):
        store.manifest("../../etc", 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_pointer_too_large_or_damaged_is_an_error(local: SnapshotStore) -> None:
    """Neither no pointer nor an old one may be made of a damaged one."""
    local._objects.put("headwater/latest", b"x" * 100_000)
    with pytest.raises(SnapshotError, match="headwater/latest must be at most 65536 bytes, got 100000"):
        local.latest()
    local._objects.put("headwater/latest", b"{}")
    with pytest.raises(SnapshotError, match="headwater/latest is no pointer"):
        local.publish(weights(), draft(1))


def test_a_store_that_cannot_be_opened_or_written_is_one_clear_line(tmp_path: Path) -> None:
    """A typing error in a URL is the first thing that goes wrong."""
    (tmp_path / "file").write_text("no folder")
    for url in ("nope://x", str(tmp_path / "file" / "below")):
        with pytest.raises(SnapshotError, match=f"object store {url} cannot be opened") as caught:
            SnapshotStore(SnapshotSettings(url=url))
        assert "\n" not in str(caught.value)
    store = SnapshotStore(SnapshotSettings(url=str(tmp_path)))
    (tmp_path / "headwater").write_text("no folder either")
    with pytest.raises(SnapshotError, match=r"cannot be (read|written)"):
        store.publish(weights(), draft(1))


def test_deleting_what_is_gone_is_deleting(store: SnapshotStore) -> None:
    """Two cleaners may meet."""
    store._objects.delete("headwater/run/v000000001/manifest.json")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"url": ""}, "url must be a folder or a URL"),
        ({"model": "../up"}, "model must be 1 to 64 letters"),
        ({"keep": -1}, "keep must be >= 0, got -1"),
        ({"full_every": 0}, "full_every must be >= 1, got 0"),
        ({"cumulative_every": 0}, "cumulative_every must be 1 to 63, got 0"),
        ({"cumulative_every": 64}, "cumulative_every must be 1 to 63, got 64"),
        ({"max_delta_share": 0.0}, "max_delta_share must be > 0 and finite, got 0.0"),
        ({"max_delta_share": float("nan")}, "max_delta_share must be > 0 and finite, got nan"),
        ({"max_delta_share": float("inf")}, "max_delta_share must be > 0 and finite, got inf"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    """A wrong setting must say so at once."""
    with pytest.raises(ValueError, match=message):
        SnapshotSettings(**wrong)
