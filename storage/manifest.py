"""What a snapshot says of itself: `manifest.json`, written last, and the pointer `latest` that names one manifest."""

import hashlib
import json
import math
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from storage.errors import SnapshotError

FORMAT_VERSION: Final = 2
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
    """XXH3-128 of its bytes."""
    state_digest: Hex | None = None
    """`state_digest` of the arrays of the version, also where the file holds a delta; format 1 has none."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One embedding table."""

    rows: Count
    dim: Count
    dtype: str
    columns: tuple[str, ...] = ()
    """Names of the arrays, of all files, that have one row for each of the table's; a delta tells those by row."""


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
    learned_times: list[tuple[int, int, int, Count]] = []
    """(written, taken, learned, n): when the samples of the next n pairs of `learned_kafka_ms` were in their log, were
    taken by the learner, and were learned. Empty in a manifest that was written before versions had it."""
    cut_ms: int = 0
    """When the cut that began at `created_ms` was done and learning went on; 0 where nobody noted it."""
    held_back: str | UnsetType = UNSET
    """Why the pointer was not moved to this version; not there where it was."""


class Manifest(ManifestDraft, frozen=True, kw_only=True):
    """What is known of a published version."""

    format_version: Literal[1, 2] = FORMAT_VERSION
    kind: Literal["full", "delta"] = "full"
    base_version: VersionNumber | None = None
    """The version of the run that a delta changes."""
    delta_encoding: Literal["rows"] | None = None
    checksum_format: Literal["xxh3-128"] = "xxh3-128"
    files: list[SnapshotFile]

    def __post_init__(self) -> None:
        if self.kind == "delta":
            if self.format_version == 1 or self.delta_encoding is None:
                raise ValueError("a delta must be of format_version 2 and have a delta_encoding")
            # So no chain of bases can lead back to where it came from.
            if self.base_version is None or self.base_version >= self.version:
                raise ValueError(f"a delta's base_version must be below {self.version}, got {self.base_version}")
        if self.format_version > 1 and any(file.state_digest is None for file in self.files):
            raise ValueError("every file must have a state_digest")


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


def make_manifest(draft: ManifestDraft, files: list[SnapshotFile], base_version: int | None = None) -> Manifest:
    """The manifest of a draft whose files are written, without the metrics that are not finite.

    With a `base_version` the files hold a delta of that one. Raises `ValueError` where a value is out of range or the
    config is no JSON.
    """
    json.dumps(draft.config, allow_nan=False)
    fields = msgspec.structs.asdict(draft)
    fields["metrics"] = {name: value for name, value in draft.metrics.items() if math.isfinite(value)}
    if base_version is not None:
        fields |= {"kind": "delta", "base_version": base_version, "delta_encoding": "rows"}
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
        if not 1 <= found <= FORMAT_VERSION:
            raise SnapshotError(
                f"{place} has format_version {found}, this version reads 1 to {FORMAT_VERSION}: "
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
