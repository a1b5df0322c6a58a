"""A delta that is damaged, or made by somebody else, is refused with a cause, or else leads to the right arrays."""

import json
import pickle
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
import xxhash
from safetensors.numpy import load, save

from storage.errors import SnapshotError
from storage.manifest import Manifest, encode_manifest
from storage.snapshot_settings import SnapshotSettings
from storage.snapshot_store import SnapshotStore
from tests.storage.made_table import Array, Files, MadeTable, assert_same, draft


class Damaged:
    """Three versions, a full one and two deltas, that tests write into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "headwater/run"
        self.store = SnapshotStore(SnapshotSettings(url=str(folder), keep=9, max_delta_share=1e9))
        table = MadeTable(0, 30)
        self.files: list[Files] = []
        for version in (1, 2, 3):
            for operation in (table.insert, table.update, table.evict, table.reuse):
                operation()
            self.files.append(table.files())
            self.store.publish(self.files[-1], draft(version))

    def path(self, version: int, name: str = "model.safetensors") -> Path:
        return self.folder / f"v{version:09d}" / name

    def load(self) -> dict[str, Array]:
        return self.store.load(self.store.manifest("run", 3), "model")

    def assert_refused_or_right(self) -> bool:
        """Whether it was refused."""
        try:
            loaded = self.load()
        except SnapshotError:
            return True
        assert_same(loaded, self.files[2]["model"])
        return False

    def sign(self, version: int, value: bytes) -> None:
        """Write a file, and a manifest that agrees with it."""
        self.path(version).write_bytes(value)
        manifest = self.store.manifest("run", version)
        signed = {"bytes": len(value), "checksum": xxhash.xxh3_128_hexdigest(value)}
        files = [msgspec.structs.replace(file, **signed) if file.name == "model" else file for file in manifest.files]
        self.write_manifest(version, msgspec.structs.replace(manifest, files=files))

    def write_manifest(self, version: int, manifest: Manifest) -> None:
        self.path(version, "manifest.json").write_bytes(encode_manifest(manifest))


@pytest.fixture
def damaged(tmp_path: Path) -> Damaged:
    """Three versions in the test's folder."""
    return Damaged(tmp_path)


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_truncated_file_of_any_link_is_refused(damaged: Damaged, version: int, name: str) -> None:
    """A copy that stopped half way must not be taken for a version."""
    path = damaged.path(version, name)
    whole = path.read_bytes()
    for length in {0, 1, 7, 8, 9, *range(10, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert damaged.assert_refused_or_right(), length


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_flipped_bit_of_any_link_is_refused(damaged: Damaged, version: int) -> None:
    """Wrong weights give wrong answers without any error."""
    path = damaged.path(version)
    whole = path.read_bytes()
    for place in range(0, len(whole), 997):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert damaged.assert_refused_or_right(), place


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_flipped_bit_in_a_manifest_never_leads_to_other_arrays(damaged: Damaged, version: int) -> None:
    """A manifest has no checksum but the one in the pointer, and a base's has not even that."""
    path = damaged.path(version, "manifest.json")
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused += damaged.assert_refused_or_right()
    assert refused > len(whole) / 4


def test_a_flipped_bit_under_a_right_checksum_never_leads_to_other_arrays(damaged: Damaged) -> None:
    """What a hostile writer signs is stopped by the rules of the format, or by the digest."""
    whole = damaged.path(3).read_bytes()
    refused = 0
    for place in range(len(whole)):
        damaged.sign(3, whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        refused += damaged.assert_refused_or_right()
    # What is left are letters of the header that mean the same.
    assert refused > 0.9 * len(whole)


def header(text: dict[str, object] | list[object], data: bytes = b"", length: int | None = None) -> bytes:
    encoded = json.dumps(text).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def entry(dtype: str, shape: list[int], size: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


HOSTILE = {
    "nothing": b"",
    "a pickle": pickle.dumps({"items.weight": np.zeros(3)}),
    "a header of exabytes": header({}, length=2**63),
    "a header of gigabytes": header({}, length=2**31),
    "a header larger than may be": struct.pack("<Q", 101_000_000) + b" " * 1_000,
    "a header that is no object": header([]),
    "a header nested deeply": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "more values than there are": header({"a": entry("F32", [99_999_999], 4)}, bytes(4)),
    "sizes that overflow": header({"a": entry("F32", [2**40, 2**40], 4)}, bytes(4)),
    "values beyond the end": header({"a": {"dtype": "U8", "shape": [4], "data_offsets": [900, 904]}}, bytes(4)),
    "values that overlap": header({"a": entry("U8", [4], 4), "b": entry("U8", [4], 4)}, bytes(4)),
    "values nobody owns": header({"a": entry("U8", [4], 4)}, bytes(99)),
    "a type that numpy has not": header({"a": entry("BF16", [2], 4)}, bytes(4)),
    "a type that nobody has": header({"a": entry("OBJECT", [1], 8)}, bytes(8)),
}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_safetensors_file_is_refused_in_any_link(damaged: Damaged, name: str, version: int) -> None:
    """A checksum says that a file is the one that was written, not that it can be trusted."""
    damaged.sign(version, HOSTILE[name])
    with pytest.raises(SnapshotError, match=rf"v00000000{version}/model\.safetensors is no safetensors file"):
        damaged.load()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items.rows": np.array([1, 0])}, "items.rows must be"),
        ({"items.rows": np.array([-1, 33])}, "items.rows must be"),
        ({"items.rows": np.array([0, 2**62])}, "items.rows must be"),
        ({"items.num_rows": np.array(2**62)}, "items.rows must name every new row"),
        ({"items.rows.memory.next": np.zeros((3, 3), np.int32)}, "items.rows.memory.next must be int32"),
        ({"items.rows.a/../../b": np.zeros(3, np.int32)}, "must change an array of the base"),
    ],
)
def test_rows_that_cannot_be_are_refused_by_name(damaged: Damaged, changes: dict[str, Array], message: str) -> None:
    """Checked where arrays are applied; here, that the error is a snapshot's and names file and base."""
    damaged.sign(3, save(load(damaged.path(3).read_bytes()) | changes))
    with pytest.raises(SnapshotError, match=rf"v000000003/model\.safetensors is no delta of v2: .*{message}"):
        damaged.load()


@pytest.mark.parametrize(
    "arrays",
    [{"items.weight": np.zeros((3, 3), np.float32)}, {"extra": np.zeros(1)}, {"dense.scale": np.zeros(2)}],
    ids=["a column whole", "an array more", "other weights"],
)
def test_arrays_that_could_be_but_were_not_are_found_out(damaged: Damaged, arrays: dict[str, Array]) -> None:
    """Every one of these has a form that the format allows."""
    own = load(damaged.path(3).read_bytes())
    own = {name: array for name, array in own.items() if name != "items.rows.items.weight" or name[11:] not in arrays}
    damaged.sign(3, save(own | arrays))
    with pytest.raises(SnapshotError, match=r"v000000003/model\.safetensors must lead to arrays of digest"):
        damaged.load()


def test_a_full_file_in_the_place_of_a_delta_is_found_out(damaged: Damaged) -> None:
    """It has whole arrays only, which a delta may have; but it is another version's."""
    damaged.sign(3, damaged.path(1).read_bytes())
    with pytest.raises(SnapshotError, match="must lead to arrays of digest"):
        damaged.load()


def test_a_delta_in_the_place_of_the_full_version_is_found_out(damaged: Damaged) -> None:
    """Its arrays are no table yet."""
    damaged.sign(1, damaged.path(2).read_bytes())
    with pytest.raises(SnapshotError, match=r"v000000002/model\.safetensors is no delta of v1: .* has no"):
        damaged.load()


def test_tables_that_the_manifest_does_not_name_are_found_out(damaged: Damaged) -> None:
    """The rows would be taken for arrays of their own."""
    damaged.write_manifest(3, msgspec.structs.replace(damaged.store.manifest("run", 3), tables={}))
    with pytest.raises(SnapshotError, match="must lead to arrays of digest"):
        damaged.load()
