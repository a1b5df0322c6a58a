"""What a shipped checkpoint says of itself, and where the objects of shipped checkpoints lie.

    TOPIC/pPARTITION/SHIPPER/TOPIC_ID@OFFSET.json        a manifest, written last: without it there is no checkpoint
    TOPIC/pPARTITION/SHIPPER/files/CHECKSUM-BYTES        a file, named by what it holds: manifests share it

A *shipper* is one partition's state folder on one disk: it alone writes to its folder, so it knows what may go there.
"""

import re
from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from storage.errors import SnapshotError
from storage.objects import Listed

FORMAT_VERSION: Final = 1
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_FILES = 100_000
MAX_FILE_BYTES = 2**40

_FILE_NAME = r"^(?:CURRENT|rocksdict-config\.json|(?:MANIFEST|OPTIONS)-[0-9]{1,20}|[0-9]{1,20}\.(?:sst|log))\Z"
FileName = Annotated[str, Meta(pattern=_FILE_NAME)]
Checksum = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
TopicId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]

_MANIFEST_PATH = re.compile(
    r".*/p[0-9]{1,6}/(?P<shipper>[0-9a-f]{16})/(?P<topic_id>[A-Za-z0-9_-]{1,64})@(?P<applied>[0-9]{1,18})\.json"
)
_FILE_PATH = re.compile(r".*/p[0-9]{1,6}/(?P<shipper>[0-9a-f]{16})/files/[0-9a-f]{32}-[0-9]{1,13}")


class ShippedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a checkpoint."""

    name: FileName
    bytes: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]
    checksum: Checksum
    """xxh3-128."""

    @property
    def content(self) -> str:
        """What names the file's content among all files of its shipper."""
        return f"{self.checksum}-{self.bytes}"


class ShippedManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One shipped checkpoint."""

    format_version: Literal[1] = FORMAT_VERSION
    partition: Annotated[int, Meta(ge=0, le=999_999)]
    topic_id: TopicId
    applied: Annotated[int, Meta(ge=0, lt=2**48)]
    """Offset of the last record that it holds."""
    files: Annotated[list[ShippedFile], Meta(min_length=1, max_length=MAX_FILES)]


class ShippedCheckpoint(NamedTuple):
    """A manifest as a listing shows it."""

    path: str
    shipper: str
    topic_id: str
    applied: int
    modified: datetime


class _AnyVersion(msgspec.Struct):
    format_version: int


_encoder = msgspec.json.Encoder()
_version_decoder = msgspec.json.Decoder(_AnyVersion)
_decoder = msgspec.json.Decoder(ShippedManifest)


def encode_shipped(manifest: ShippedManifest, place: str) -> bytes:
    """The manifest as JSON; raises `SnapshotError` for one that `decode_shipped` would refuse."""
    encoded = _encoder.encode(manifest)
    decode_shipped(encoded, place)
    return encoded


def decode_shipped(value: bytes, place: str) -> ShippedManifest:
    """Read a manifest; raises `SnapshotError` for one that is damaged or of another format, naming its `place`."""
    try:
        found = _version_decoder.decode(value).format_version
        if found != FORMAT_VERSION:
            raise SnapshotError(
                f"{place} has format_version {found}, this version reads {FORMAT_VERSION}: "
                "use the version of Headwater that wrote it, or delete it"
            )
        manifest = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotError(f"{place} is no manifest of a checkpoint: {error}") from error
    if len({file.name for file in manifest.files}) < len(manifest.files):
        raise SnapshotError(f"{place} is no manifest of a checkpoint: it names a file twice")
    return manifest


def shipped_from(listed: Listed) -> ShippedCheckpoint | None:
    """The checkpoint whose manifest this object is; None for any other object."""
    match = _MANIFEST_PATH.fullmatch(listed.path)
    if match is None:
        return None
    return ShippedCheckpoint(listed.path, match["shipper"], match["topic_id"], int(match["applied"]), listed.modified)


def shipper_of(path: str) -> str | None:
    """Whose file an object is; None for what is no file of a checkpoint."""
    match = _FILE_PATH.fullmatch(path)
    return None if match is None else match["shipper"]
