"""What a manifest from outside may say."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from storage.errors import SnapshotError
from storage.objects import Listed
from storage.shipped_manifest import (
    ShippedFile,
    ShippedManifest,
    decode_shipped,
    encode_shipped,
    shipped_from,
    shipper_of,
)

GOOD = ShippedManifest(
    partition=3,
    topic_id="abc",
    applied=7,
    files=[
        ShippedFile(name="CURRENT", bytes=16, checksum="0" * 32),
        ShippedFile(name="1.sst", bytes=1, checksum="f" * 32),
    ],
)
GOLDEN = (
    b'{"format_version":1,"partition":3,"topic_id":"abc","applied":7,"files":['
    b'{"name":"CURRENT","bytes":16,"checksum":"00000000000000000000000000000000"},'
    b'{"name":"1.sst","bytes":1,"checksum":"ffffffffffffffffffffffffffffffff"}]}'
)


def test_the_format_stays() -> None:
    """Another version of Headwater has to read what this one wrote."""
    assert encode_shipped(GOOD, "x") == GOLDEN
    assert decode_shipped(GOLDEN, "x") == GOOD


@pytest.mark.parametrize(
    "name",
    [
        "../CURRENT",
        "/etc/passwd",
        "a/1.sst",
        "CURRENT\n",
        "CURRENT\0",
        "",
        ".",
        "..",
        "LOCK",
        "1.sst.tmp",
        "x.sst",
        "\u0661.sst",
    ],
)
def test_a_file_name_cannot_leave_its_folder(name: str) -> None:
    """Whoever can write to the bucket must not write anywhere on the worker's disk."""
    broken = json.loads(GOLDEN)
    broken["files"][0]["name"] = name
    with pytest.raises(SnapshotError, match="place is no manifest"):
        decode_shipped(json.dumps(broken).encode(), "place")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("partition", -1),
        ("partition", 10**6),
        ("topic_id", ""),
        ("topic_id", "a/b"),
        ("topic_id", "a" * 65),
        ("topic_id", ".."),
        ("applied", -1),
        ("applied", 2**48),
        ("applied", 1.5),
        ("files", []),
        ("files", [{"name": "CURRENT", "bytes": -1, "checksum": "0" * 32}]),
        ("files", [{"name": "CURRENT", "bytes": 2**40 + 1, "checksum": "0" * 32}]),
        ("files", [{"name": "CURRENT", "bytes": 1, "checksum": "../" + "0" * 29}]),
        ("files", [{"name": "CURRENT", "bytes": 1, "checksum": "0" * 32}] * 2),
        ("files", [{"name": f"{n}.sst", "bytes": 1, "checksum": "0" * 32} for n in range(100_001)]),
        ("format_version", 2),
        ("format_version", "1"),
    ],
)
def test_values_out_of_limits_are_refused(field: str, value: Any) -> None:
    with pytest.raises(SnapshotError, match="place "):
        decode_shipped(json.dumps(json.loads(GOLDEN) | {field: value}).encode(), "place")


def test_no_bytes_make_it_raise_anything_else() -> None:
    """An error that nobody expects would take the worker down instead of passing the checkpoint over."""
    rng = random.Random(5)
    refused = 0
    for _ in range(3_000):
        value = bytearray(GOLDEN)
        for _ in range(rng.randint(1, 4)):
            value[rng.randrange(len(value))] = rng.randrange(256)
        try:
            manifest = decode_shipped(bytes(value[: rng.choice([len(value), rng.randrange(len(value))])]), "place")
        except SnapshotError:
            refused += 1
        else:
            assert all("/" not in file.name and "\\" not in file.name for file in manifest.files)
    assert refused > 2_000
    with pytest.raises(SnapshotError):
        decode_shipped(b"[" * 100_000, "place")


def test_what_cannot_be_read_again_is_not_written() -> None:
    unknown = ShippedFile(name="IDENTITY", bytes=1, checksum="0" * 32)
    with pytest.raises(SnapshotError, match="place is no manifest"):
        encode_shipped(ShippedManifest(partition=0, topic_id="t", applied=1, files=[unknown]), "place")


def test_only_paths_of_the_layout_are_read() -> None:
    """A bucket may hold anything else beside."""
    now = datetime.now(UTC)
    shipped = shipped_from(Listed("events/p3/0123456789abcdef/abc@7.json", now))
    assert shipped is not None
    assert (shipped.shipper, shipped.topic_id, shipped.applied) == ("0123456789abcdef", "abc", 7)
    for path in (
        "events/p3/0123456789abcdef/abc@-1.json",
        "events/p3/0123456789abcdef/abc@\u0663.json",
        "events/p3/0123456789abcdef/files/abc@7.json",
        "events/p3/zz/abc@7.json",
        "events/p3/0123456789abcdef/abc@7.json.tmp",
        "events/p3/0123456789abcdef/a.c@7.json",
        "events/p3/0123456789abcdef/abc@9999999999999999999.json",
    ):
        assert shipped_from(Listed(path, now)) is None
        assert shipper_of(path) is None
    assert shipper_of(f"events/p3/0123456789abcdef/files/{'a' * 32}-12") == "0123456789abcdef"
