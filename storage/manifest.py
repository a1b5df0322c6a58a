"""What a snapshot says of itself: `manifest.json`, written last, and the pointer `latest` that names one manifest."""

import hashlib
import json
import math
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from storage.errors import SnapshotError

FORMAT_VERSION: Final = 1
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_POINTER_BYTES = 64 * 1024

RunId = Annotated[str, Meta(pattern=r"^(?!(latest|aliases)\Z)[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]
FileName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]
Count = Annotated[int, Meta(ge=0)]
VersionNumber = Annotated[int, Meta(ge=0, le=999_999_999)]
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{32,64}\Z")]


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a snapshot."""

    name: FileName
    """Its name without `.safetensors`."""
    bytes: Count
    checksum: Hex


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One embedding table."""

    rows: Count
    dim: Count
    dtype: str


class SampleMark(msgspec.Struct, frozen=True, kw_only=True):
    """Id of the newest sample that was learned of a source partition."""

    topic_id: str = ""
    """Log that the sample is of; empty in a manifest that was written before marks had it."""
    epoch: int
    trigger_offset: int
    n: int
    former: dict[str, tuple[int, int]] = {}
    """(trigger offset, n) of the newest sample of the logs that were learned before, by topic id, oldest first."""


class ManifestDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What the trainer says of a version before its files are written."""

    run_id: RunId
    version: VersionNumber
    base_version: VersionNumber | None = None
    tables: dict[str, Table] = {}
    offsets: dict[str, dict[str, int]] = {}
    """Next offset to read by topic and partition."""
    sample_marks: dict[str, SampleMark] = {}
    """By source partition."""
    event_time_ms: int = 0
    """Time of the newest event that was learned."""
    created_ms: int = 0
    step: Count = 0
    config: dict[str, Any] = {}
    """The model's settings, as JSON values."""
    metrics: dict[str, float] = {}
    """Finite ones only: `SnapshotStore.publish` leaves the others out."""
    learned_kafka_ms: list[tuple[int, int]] = []
    """(Kafka time, count) of the records that this version learned first."""


class Manifest(ManifestDraft, frozen=True, kw_only=True):
    """What is known of a published version."""

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["full"] = "full"
    checksum_format: Literal["xxh3-128"] = "xxh3-128"
    files: list[SnapshotFile]


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """What the newest version is."""

    generation: Count
    """Rises with every move of the pointer, also with one to an older version."""
    run_id: RunId
    version: VersionNumber
    manifest_sha256: Hex


class _AnyVersion(msgspec.Struct):
    format_version: int


_encoder = msgspec.json.Encoder()
_version_decoder = msgspec.json.Decoder(_AnyVersion)
_manifest_decoder = msgspec.json.Decoder(Manifest)
_pointer_decoder = msgspec.json.Decoder(Pointer)


def make_manifest(draft: ManifestDraft, files: list[SnapshotFile]) -> Manifest:
    """The manifest of a draft whose files are written, without the metrics that are not finite.

    Raises `ValueError` where a value is out of range or the config is no JSON.
    """
    json.dumps(draft.config, allow_nan=False)
    fields = msgspec.structs.asdict(draft)
    fields["metrics"] = {name: value for name, value in draft.metrics.items() if math.isfinite(value)}
    manifest = Manifest(**fields, files=files)
    # Decoding checks what constructing does not.
    try:
        return _manifest_decoder.decode(_encoder.encode(manifest))
    except msgspec.ValidationError as error:
        raise ValueError(f"a manifest's values must keep their limits: {error}") from error


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON; raises `ValueError` where that is too large to be read again."""
    encoded = _encoder.encode(manifest)
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise ValueError(f"a manifest must be at most {MAX_MANIFEST_BYTES} bytes, got {len(encoded)}")
    return encoded


def decode_manifest(value: bytes, place: str) -> Manifest:
    """Read a manifest; raises `SnapshotError` for one that is damaged or of another format, naming its `place`."""
    try:
        found = _version_decoder.decode(value).format_version
        if found != FORMAT_VERSION:
            raise SnapshotError(
                f"{place} has format_version {found}, this version reads {FORMAT_VERSION}: "
                "use the version of Headwater that wrote it, or train anew"
            )
        return _manifest_decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotError(f"{place} is no manifest: {error}") from error


def encode_pointer(pointer: Pointer) -> bytes:
    """The pointer as JSON."""
    return _encoder.encode(pointer)


def decode_pointer(value: bytes, place: str) -> Pointer:
    """Read a pointer; raises `SnapshotError` for anything else, naming its `place`."""
    try:
        return _pointer_decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotError(f"{place} is no pointer: {error}") from error


def sha256_of(value: bytes) -> str:
    """The hash by which a pointer names a manifest."""
    return hashlib.sha256(value).hexdigest()
