import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from storage.chain import MAX_LINKS, Held, find_chain
from storage.errors import SnapshotError
from storage.manifest import (
    Manifest,
    ManifestDraft,
    SnapshotFile,
    Table,
    decode_manifest,
    encode_manifest,
    make_manifest,
)
from storage.objects import Objects
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.storage.made_table import Files, MadeTable, assert_same, draft
from tests.storage.test_deltas import AFTER, BASE

GOLDEN_DELTA = b"\xb8\x01\x00\x00\x00\x00\x00\x00{}"

GOLDEN_DELTA = (
    b'\xf0\x01\x00\x00\x00\x00\x00\x00{"items.evicted":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},'
    b'"items.num_rows":{"dtype":"I64","shape":[],"data_offsets":[8,16]},'
    b'"items.renamed":{"dtype":"I64","shape":[2],"data_offsets":[16,32]},'
    b'"items.renamed.id_ends":{"dtype":"I64","shape":[2],"data_offsets":[32,48]},'
    b'"items.rows":{"dtype":"I64","shape":[2],"data_offsets":[48,64]},'
    b'"items.rows.items.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[64,72]},'
    b'"items.renamed.id_bytes":{"dtype":"U8","shape":[5],"data_offsets":[72,77]}}    '
    + struct.pack("<qqqqqqqq", 2, 5, 1, 4, 1, 5, 3, 4)
    + struct.pack("<ff", 7, 4)
    + b"1four"
)
GOLDEN_MANIFEST = (
    b'{"run_id":"run","version":42,"tables":{"items":{"rows":3,"dim":1,"dtype":"float32","columns":["items.weight"]}},'
    b'"offsets":{},"sample_marks":{},"event_time_ms":0,"created_ms":0,"step":0,"config":{},"metrics":{},'
    b'"learned_kafka_ms":[],"learned_times":[],"cut_ms":0,"format_version":2,"kind":"delta","base_version":41,"delta_encoding":"rows",'
    b'"checksum_format":"xxh3-128","files":[{"name":"model","bytes":581,'
    b'"checksum":"746f4eea6d02a76a93f3a9c2e62eeb80","state_digest":"5560bb149159936cec941cfadb43c0cb"}]}'
)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    """A store in the test's folder that keeps all."""
    return SnapshotStore(SnapshotSettings(url=str(tmp_path), keep=99, max_delta_share=1e9))


def publish(store: SnapshotStore, count: int, run_id: str = "run", seed: int = 0) -> list[Files]:
    """Files of so many versions from 1 on, of which the first is full."""
    table = MadeTable(seed, 50)
    published = []
    for version in range(1, count + 1):
        for operation in (table.insert, table.update, table.evict, table.reuse):
            operation()
        published.append(table.files())
        store.publish(published[-1], draft(version, run_id))
    return published


def rewrite(store: SnapshotStore, version: int, **fields: Any) -> None:
    """Replace fields of a published manifest."""
    path = f"headwater/run/v{version:09d}/manifest.json"
    value = store._objects.get(path, 1 << 20)
    assert value is not None
    store._objects.put(path, encode_manifest(msgspec.structs.replace(decode_manifest(value, path), **fields)))


def read(path: str, store: SnapshotStore) -> bytes:
    value = store._objects.get(f"headwater/run/{path}", 1 << 20)
    assert value is not None
    return value


def test_a_delta_is_these_bytes(store: SnapshotStore, tmp_path: Path) -> None:
    """Who has a reader of the format reads the deltas of the next version of Headwater, too."""
    tables = {"items": Table(rows=3, dim=1, dtype="float32", columns=("items.weight",))}
    for version, arrays in ((41, BASE), (42, AFTER)):
        store.publish({"model": arrays}, ManifestDraft(run_id="run", version=version, tables=tables))
    folder = tmp_path / "headwater/run/v000000042"
    assert (folder / "model.safetensors").read_bytes() == GOLDEN_DELTA
    assert (folder / "manifest.json").read_bytes() == GOLDEN_MANIFEST
    assert_same(store.load(store.manifest("run", 42), "model"), AFTER)


def test_a_version_of_any_place_in_a_chain_is_loaded(store: SnapshotStore) -> None:
    """Full, delta, cumulative delta, and deltas of that."""
    for version, files in enumerate(publish(store, 25), 1):
        for name, arrays in files.items():
            assert_same(store.load(store.manifest("run", version), name), arrays)
    assert [store.manifest("run", version).base_version for version in (1, 2, 10, 11, 12, 21, 22)] == [
        *(None, 1, 9, 1, 11, 1, 21)
    ]


class CountingObjects(Objects):
    """Notes what is read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.paths: list[str] = []

    def get(self, path: str, max_bytes: int) -> bytes | None:
        self.paths.append(path)
        return super().get(path, max_bytes)


def test_who_holds_a_version_reads_only_what_came_after(store: SnapshotStore, tmp_path: Path) -> None:
    """A server that follows a table of gigabytes every few seconds cannot read it anew each time."""
    files = publish(store, 5)
    third, fifth = store.manifest("run", 3), store.manifest("run", 5)
    held = Held(third, store.load(third, "model"))
    store._objects = counting = CountingObjects(str(tmp_path))
    assert_same(store.load(fifth, "model", held), files[4]["model"])
    assert [path.removeprefix("headwater/run/v00000000") for path in counting.paths] == [
        *("4/manifest.json", "3/manifest.json", "4/model.safetensors", "5/model.safetensors")
    ]
    counting.paths.clear()
    assert_same(store.load(third, "model", held), files[2]["model"])
    assert counting.paths == []


def test_what_is_held_of_another_chain_is_of_no_use(store: SnapshotStore) -> None:
    """Version 3 of another run, or of a run that was begun anew under the same name, is another state."""
    files, others = publish(store, 4), publish(store, 3, "other", seed=1)
    other = store.manifest("other", 3)
    assert_same(store.load(store.manifest("run", 4), "model", Held(other, others[2]["model"])), files[3]["model"])
    first = store.manifest("other", 1)
    assert_same(store.load(store.manifest("run", 1), "model", Held(first, others[0]["model"])), files[0]["model"])
    likewise = msgspec.structs.replace(store.manifest("run", 3), step=77)
    assert_same(store.load(store.manifest("run", 4), "model", Held(likewise, others[2]["model"])), files[3]["model"])


def test_what_is_held_and_was_changed_is_found_out(store: SnapshotStore) -> None:
    """A server that had written into its weights would serve them on."""
    publish(store, 3)
    second = store.manifest("run", 2)
    arrays = store.load(second, "model")
    arrays["dense.scale"][0] = 9
    with pytest.raises(SnapshotError, match=r"v000000002/model\.safetensors must lead to arrays of digest"):
        store.load(second, "model", Held(second, arrays))
    arrays["items.weight"][0] = 9
    with pytest.raises(SnapshotError, match=r"v000000003/model\.safetensors must lead to arrays of digest"):
        store.load(store.manifest("run", 3), "model", Held(second, arrays))


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_a_base_that_is_gone_is_named(store: SnapshotStore, name: str) -> None:
    """Whoever deleted it by hand must read what is missing."""
    publish(store, 3)
    store._objects.delete(f"headwater/run/v000000002/{name}")
    with pytest.raises(SnapshotError, match=f"v000000002/{name} (is not in|must have .* got none)"):
        store.load(store.manifest("run", 3), "model")


def test_a_delta_without_its_base_says_so(store: SnapshotStore) -> None:
    """The version itself is there: the message must not say that it is not."""
    publish(store, 2)
    store._objects.delete("headwater/run/v000000001/manifest.json")
    with pytest.raises(SnapshotError, match="run/v2 is a delta and its base cannot be read: headwater/run/v000000001"):
        store.load(store.manifest("run", 2), "model")


def test_a_base_without_the_file_is_named(store: SnapshotStore) -> None:
    """A manifest may leave a file out."""
    publish(store, 2)
    rewrite(store, 1, files=store.manifest("run", 1).files[1:])
    with pytest.raises(SnapshotError, match="run/v1 has no file 'model': it has trainer"):
        store.load(store.manifest("run", 2), "model")


def test_another_runs_version_in_the_place_of_a_base_is_refused(store: SnapshotStore) -> None:
    """Chains of two runs would mix, and every array would have a right shape."""
    publish(store, 3)
    publish(store, 3, "other", seed=1)
    for name in ("manifest.json", "model.safetensors"):
        value = store._objects.get(f"headwater/other/v000000002/{name}", 1 << 20)
        store._objects.put(f"headwater/run/v000000002/{name}", value or b"")
    with pytest.raises(SnapshotError, match=r"v000000002/manifest\.json is the manifest of other/v2"):
        store.load(store.manifest("run", 3), "model")
    # Even one that claims to be of this run.
    rewrite_run = msgspec.structs.replace(store.manifest("other", 2), run_id="run")
    store._objects.put("headwater/run/v000000002/manifest.json", encode_manifest(rewrite_run))
    with pytest.raises(SnapshotError, match=r"must lead to arrays of digest|is no delta of v"):
        store.load(store.manifest("run", 3), "model")


def test_another_base_of_the_same_run_is_found_out(store: SnapshotStore) -> None:
    """A delta fits many versions; its digest fits one."""
    table = MadeTable(0, 50)
    for version in (1, 2, 3):
        table.touch_all() if version == 2 else table.link()
        store.publish(table.files(), draft(version))
    rewrite(store, 3, base_version=1)
    with pytest.raises(SnapshotError, match=r"must lead to arrays of digest [0-9a-f]{32}, got [0-9a-f]{32}"):
        store.load(store.manifest("run", 3), "model")


def test_a_cycle_of_bases_is_refused(store: SnapshotStore) -> None:
    """A loader would run in circles for ever."""
    publish(store, 3)
    for version, base in ((2, 3), (3, 3)):
        path = f"v{version:09d}/manifest.json"
        value = read(path, store).replace(f'"base_version":{version - 1}'.encode(), f'"base_version":{base}'.encode())
        store._objects.put(f"headwater/run/{path}", value)
        with pytest.raises(SnapshotError, match=f"a delta's base_version must be below {version}, got 3"):
            store.manifest("run", version)


def test_a_chain_too_long_is_refused() -> None:
    """A hostile store could have a server read for hours."""
    file = SnapshotFile(name="model", bytes=0, checksum="0" * 32, state_digest="0" * 32)

    def find(run_id: str, version: int) -> Manifest:
        return make_manifest(draft(version, run_id), [file], version - 1 if version else None)

    assert len(find_chain(find("run", MAX_LINKS - 1), find, None)) == MAX_LINKS
    with pytest.raises(SnapshotError, match=f"run/v{MAX_LINKS} must be at most {MAX_LINKS} versions from a full one"):
        find_chain(find("run", MAX_LINKS), find, None)


def test_a_full_version_of_format_1_is_loaded(store: SnapshotStore) -> None:
    """It has no digest, and a base that means nothing for loading."""
    files = publish(store, 1)[0]
    manifest = store.manifest("run", 1)
    old = [msgspec.structs.replace(file, state_digest=None) for file in manifest.files]
    rewrite(store, 1, format_version=1, files=old, base_version=0)
    assert_same(store.load(store.manifest("run", 1), "model"), files["model"])


def test_a_name_that_deltas_use_is_refused_at_once(store: SnapshotStore) -> None:
    """The first version is full and would not need to care; the second could not be told."""
    with pytest.raises(ValueError, match=r"array 'items\.evicted' must have another name"):
        store.publish({"model": {"items.evicted": np.zeros(1)}}, draft(1))
    assert store.versions("run") == []


def test_ids_that_are_none_are_refused(store: SnapshotStore) -> None:
    """A trainer's mistake must show where it is made."""
    files = publish(store, 1)[0]
    files["model"]["items.id_ends"] = files["model"]["items.id_ends"][::-1]
    with pytest.raises(ValueError, match=r"items\.id_ends must rise"):
        store.publish(files, draft(2))


def test_what_is_held_precedes_deltas_of_its_run_that_came_later(store: SnapshotStore) -> None:
    """A reader would read all of a chain twice that what it holds has nothing to do with, or never a second time."""
    tables = {"items": Table(rows=3, dim=1, dtype="float32", columns=("items.weight",))}
    first, second = (
        store.publish({"model": arrays}, ManifestDraft(run_id="run", version=version, tables=tables))
        for version, arrays in ((1, BASE), (2, AFTER))
    )
    other = store.publish({"model": BASE}, ManifestDraft(run_id="other", version=3, tables=tables))
    assert (first.kind, second.kind, other.kind) == ("full", "delta", "full")
    assert Held(first, {}).precedes(second)
    assert not Held(second, {}).precedes(first)
    assert not Held(second, {}).precedes(second)
    assert not Held(other, {}).precedes(second)
    assert not Held(first, {}).precedes(other)
