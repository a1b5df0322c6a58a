import json
from typing import Any

import msgspec
import pytest

from storage.errors import SnapshotError
from storage.manifest import (
    MAX_MANIFEST_BYTES,
    ManifestDraft,
    Pointer,
    SampleMark,
    SnapshotFile,
    Table,
    decode_manifest,
    decode_pointer,
    encode_manifest,
    encode_pointer,
    make_manifest,
)

FILE = SnapshotFile(
    name="model",
    bytes=80,
    checksum="0123456789abcdef0123456789abcdef",
    state_digest="fedcba9876543210fedcba9876543210",
)
DRAFT = ManifestDraft(
    run_id="run-1",
    version=42,
    tables={"items": Table(rows=3, dim=2, dtype="float32", columns=("items.weight",))},
    offsets={"samples": {"0": 17}},
    sample_marks={"0": SampleMark(topic_id="log-1", epoch=1, trigger_offset=16, n=0, former={"log-0": (99, 2)})},
    event_time_ms=5,
    created_ms=6,
    step=7,
    config={"layers": 2, "name": "é"},
    metrics={"hit_rate": 0.25},
    learned_kafka_ms=[(3, 2)],
    learned_times=[(4, 5, 6, 1)],
    cut_ms=8,
)
GOLDEN = (
    b'{"run_id":"run-1","version":42,"tables":{"items":{"rows":3,"dim":2,"dtype":"float32","columns":["items.weight"]}},'
    b'"offsets":{"samples":{"0":17}},"sample_marks":{"0":{"topic_id":"log-1","epoch":1,"trigger_offset":16,"n":0,'
    b'"former":{"log-0":[99,2]}}},"event_time_ms":5,'
    b'"created_ms":6,"step":7,"config":{"layers":2,"name":"\xc3\xa9"},"metrics":{"hit_rate":0.25},'
    b'"learned_kafka_ms":[[3,2]],"learned_times":[[4,5,6,1]],"cut_ms":8,'
    b'"format_version":2,"kind":"full","base_version":null,'
    b'"delta_encoding":null,"checksum_format":"xxh3-128",'
    b'"files":[{"name":"model","bytes":80,"checksum":"0123456789abcdef0123456789abcdef",'
    b'"state_digest":"fedcba9876543210fedcba9876543210"}]}'
)
GOLDEN_DELTA = GOLDEN.replace(
    b'"full","base_version":null,"delta_encoding":null', b'"delta","base_version":41,"delta_encoding":"rows"'
)
GOLDEN_1 = (
    b'{"run_id":"run-1","version":42,"base_version":41,"tables":{"items":{"rows":3,"dim":2,"dtype":"float32"}},'
    b'"offsets":{"samples":{"0":17}},"sample_marks":{"0":{"topic_id":"log-1","epoch":1,"trigger_offset":16,"n":0,'
    b'"former":{"log-0":[99,2]}}},"event_time_ms":5,'
    b'"created_ms":6,"step":7,"config":{"layers":2,"name":"\xc3\xa9"},"metrics":{"hit_rate":0.25},'
    b'"learned_kafka_ms":[[3,2]],"format_version":1,"kind":"full","checksum_format":"xxh3-128",'
    b'"files":[{"name":"model","bytes":80,"checksum":"0123456789abcdef0123456789abcdef"}]}'
)


GOLDEN_2_WITHOUT_TIMES = GOLDEN.replace(b'"learned_times":[[4,5,6,1]],"cut_ms":8,', b"")


def changed(of: bytes = GOLDEN, **fields: Any) -> bytes:
    """A golden manifest with fields replaced; a field that is None goes."""
    found = json.loads(of) | fields
    return json.dumps({name: value for name, value in found.items() if value is not None}).encode()


def file(**fields: Any) -> list[dict[str, Any]]:
    """One file, as a manifest tells it, with fields replaced."""
    return [{"name": "model", "bytes": 1, "checksum": "0" * 32, "state_digest": "0" * 32} | fields]


@pytest.mark.parametrize(("base_version", "golden"), [(None, GOLDEN), (41, GOLDEN_DELTA)])
def test_a_manifest_is_these_bytes(base_version: int | None, golden: bytes) -> None:
    """What one version writes the next one must read."""
    manifest = make_manifest(DRAFT, [FILE], base_version)
    assert encode_manifest(manifest) == golden
    assert decode_manifest(golden, "here") == manifest


def test_a_full_version_of_format_1_is_read() -> None:
    """Whoever updates would have to train anew."""
    manifest = decode_manifest(GOLDEN_1, "here")
    assert (manifest.format_version, manifest.kind, manifest.base_version) == (1, "full", 41)
    assert manifest.files == [SnapshotFile(name="model", bytes=80, checksum="0123456789abcdef0123456789abcdef")]
    assert manifest.tables == {"items": Table(rows=3, dim=2, dtype="float32")}
    assert manifest.learned_kafka_ms == [(3, 2)]


def test_a_manifest_of_before_its_times_were_told_is_read() -> None:
    """A server that is updated before the learner would stop following it."""
    manifest = decode_manifest(GOLDEN_2_WITHOUT_TIMES, "here")
    assert manifest.learned_kafka_ms == [(3, 2)]
    assert (manifest.learned_times, manifest.cut_ms) == ([], 0)
    assert decode_manifest(GOLDEN_1, "here").learned_times == []


def test_marks_of_an_older_manifest_say_nothing_of_their_log() -> None:
    """A server or a learner would stop at what the version before wrote."""
    marks = {"0": {"epoch": 1, "trigger_offset": 16, "n": 0}}
    manifest = decode_manifest(changed(sample_marks=marks), "here")
    assert manifest.sample_marks["0"] == SampleMark(topic_id="", epoch=1, trigger_offset=16, n=0, former={})


def test_a_pointer_is_these_bytes() -> None:
    """Servers of another version follow the same pointer."""
    pointer = Pointer(generation=3, run_id="run-1", version=42, manifest_sha256="ab" * 32)
    golden = b'{"generation":3,"run_id":"run-1","version":42,"manifest_sha256":"' + b"ab" * 32 + b'"}'
    assert encode_pointer(pointer) == golden
    assert decode_pointer(golden, "here") == pointer


def test_metrics_that_are_not_finite_are_left_out() -> None:
    """JSON has no NaN, and a null would not be read back."""
    metrics = {"auc": float("nan"), "loss": float("inf"), "mrr": 0.5}
    manifest = make_manifest(msgspec.structs.replace(DRAFT, metrics=metrics), [])
    assert decode_manifest(encode_manifest(manifest), "here").metrics == {"mrr": 0.5}


@pytest.mark.parametrize(
    "fields",
    [
        {"run_id": "../up"},
        {"run_id": "a/b"},
        {"run_id": ""},
        {"run_id": "latest"},
        {"run_id": "a\n"},
        {"version": -1},
        {"version": 10**9},
        {"step": -1},
        {"config": {"rate": float("nan")}},
        {"sample_marks": {"0": None}},
    ],
)
def test_a_draft_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    """A manifest that nobody can read again must not be written."""
    with pytest.raises(ValueError):
        make_manifest(msgspec.structs.replace(DRAFT, **fields), [])


def test_a_manifest_too_large_to_be_read_is_not_written() -> None:
    """The limit of the reader binds the writer."""
    config = {"text": "x" * MAX_MANIFEST_BYTES}
    manifest = make_manifest(msgspec.structs.replace(DRAFT, config=config), [])
    with pytest.raises(ValueError, match=f"at most {MAX_MANIFEST_BYTES} bytes"):
        encode_manifest(manifest)


def test_another_format_is_named_with_what_to_do() -> None:
    """An old server that meets a new trainer must say so in one line."""
    with pytest.raises(SnapshotError, match="has format_version 3, this version reads 1 to 2: use the ver") as caught:
        decode_manifest(changed(format_version=3, files="none of your business"), "m/latest")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        GOLDEN[:-1],
        changed(format_version=None),
        changed(files=None),
        changed(kind="delta"),
        changed(kind="half"),
        changed(GOLDEN_1, kind="delta", delta_encoding="rows"),
        changed(GOLDEN_DELTA, delta_encoding=None),
        changed(GOLDEN_DELTA, delta_encoding="xor"),
        changed(GOLDEN_DELTA, base_version=None),
        changed(GOLDEN_DELTA, base_version=42),
        changed(GOLDEN_DELTA, base_version=43),
        changed(GOLDEN_DELTA, base_version=-1),
        changed(GOLDEN_DELTA, base_version="../41"),
        changed(files=file(state_digest=None)),
        changed(files=file(state_digest="no")),
        changed(tables={"items": {"rows": 3, "dim": 2, "dtype": "float32", "columns": "items.weight"}}),
        changed(checksum_format="adler32"),
        changed(run_id="../../etc"),
        changed(run_id="a/../b"),
        changed(run_id=".."),
        changed(files=file(name="../model")),
        changed(files=file(name="/etc/passwd")),
        changed(files=file(bytes=-1)),
        changed(files=file(checksum="no")),
        changed(metrics={"auc": "high"}),
        b'{"format_version":1,"config":' + b"[" * 100_000,
    ],
)
def test_hostile_manifests_are_refused(value: bytes) -> None:
    """A manifest comes from outside: it may neither name a path elsewhere nor fail in an unforeseen way."""
    with pytest.raises(SnapshotError, match="somewhere is no manifest"):
        decode_manifest(value, "somewhere")


@pytest.mark.parametrize("value", [b"", b"{}", b'{"generation":1,"run_id":"..","version":1,"manifest_sha256":"00"}'])
def test_hostile_pointers_are_refused(value: bytes) -> None:
    """The pointer, too, comes from outside."""
    with pytest.raises(SnapshotError, match="somewhere is no pointer"):
        decode_pointer(value, "somewhere")
