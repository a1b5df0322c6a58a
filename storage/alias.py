"""What an alias says: a name that operators move over published versions."""

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from storage.errors import SnapshotError
from storage.manifest import MAX_POINTER_BYTES, Count, Hex, RunId, VersionNumber

if TYPE_CHECKING:
    # The settings check names with this file, and should not load what opens object stores.
    from storage.objects import Objects

CHAMPION: Final = "champion"
"""The alias that servers follow unless they are told otherwise; where nobody has moved it, it tracks `latest`."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
# What people typed is shown in terminals, so it must not hold what those obey.
_Line = Annotated[str, Meta(max_length=1_000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """The one version that an alias is held to."""

    run_id: RunId
    version: VersionNumber
    manifest_sha256: Hex


class Alias(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an alias points: it tracks `latest`, or it is pinned to one version."""

    generation: Count
    """Rises with every move; 0 where nobody has moved it yet."""
    tracks: Literal["latest"] | None = None
    pinned: Pin | None = None
    moved_ms: int = 0
    """When it was moved last."""
    moved_by: _Line = ""
    reason: _Line = ""

    def __post_init__(self) -> None:
        if (self.tracks is None) == (self.pinned is None):
            raise ValueError("an alias either tracks latest or is pinned")


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Alias)


def check_alias_name(name: str) -> str:
    """The name; raises `ValueError` where no alias can be called so."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"alias must be 1 to 64 of a-z, 0-9, - and _ and begin with a letter, got {name!r}")
    return name


def alias_path(model: str, name: str) -> str:
    """Where an alias lies in the store."""
    return f"{model}/aliases/{check_alias_name(name)}"


def encode_alias(alias: Alias) -> bytes:
    """The alias as JSON; raises `ValueError` where a value is out of range."""
    encoded = _encoder.encode(alias)
    # Decoding checks what constructing does not.
    try:
        _decoder.decode(encoded)
    except msgspec.ValidationError as error:
        raise ValueError(f"an alias' values must keep their limits: {error}") from error
    return encoded


def decode_alias(value: bytes, place: str) -> Alias:
    """Read an alias; raises `SnapshotError` for anything else, naming its `place`."""
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SnapshotError(f"{place} is no alias: {error}; mend or delete it, then move the alias again") from error


def read_aliases(objects: "Objects", model: str) -> dict[str, Alias]:
    """The aliases that somebody has moved, by name; raises `SnapshotError` if one is damaged."""
    names = [listed.path.rsplit("/", 1)[1] for listed in objects.list(f"{model}/aliases")]
    found = {}
    # What no alias can be called is nobody's alias: a file that an editor left.
    for name in filter(_NAME.fullmatch, names):
        path = alias_path(model, name)
        value = objects.get(path, MAX_POINTER_BYTES)
        if value is not None:
            found[name] = decode_alias(value, path)
    return found


def pinned_versions(objects: "Objects", model: str) -> set[tuple[str, int]]:
    """(run, version) of what aliases are pinned to; raises `SnapshotError` if one is damaged."""
    pins = [alias.pinned for alias in read_aliases(objects, model).values()]
    return {(pin.run_id, pin.version) for pin in pins if pin is not None}
