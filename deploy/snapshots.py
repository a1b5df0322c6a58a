"""What operators ask of the snapshot store: which versions there are, whether they are whole, which came before."""

import re
from collections.abc import Sequence

import msgspec

from storage.alias import Alias
from storage.aliases import Aliases
from storage.errors import SnapshotError
from storage.manifest import Pointer
from storage.snapshot_store import SnapshotStore

_VERSION = re.compile(r"(?:(?P<run_id>[A-Za-z0-9][A-Za-z0-9_-]{0,63})/)?v?(?P<version>\d{1,9})")

Version = tuple[str, int]
"""Run and number."""


class SnapshotRow(msgspec.Struct, frozen=True, kw_only=True):
    """A published version as `headwater snapshots ls` shows it."""

    run_id: str
    version: int
    pointed_by: list[str]
    """`latest` and the aliases that stand for it, the pinned ones marked so."""
    kind: str = ""
    bytes: int = 0
    """Of all its files."""
    created_ms: int = 0
    step: int = 0
    events: float | None = None
    """New events that it had learned."""
    hit_rate: float | None = None
    """Share of targets among the ten foreseen, over the whole run."""
    recent_hit_rate: float | None = None
    """The same over the last 5,000 targets."""
    problem: str | None = None
    """Why nothing is known of it."""
    held_back: str = ""
    """Why `latest` was not moved to it."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What came of reading a version."""

    run_id: str
    version: int
    bytes: int = 0
    files: list[str] = []
    problem: str | None = None
    """The first thing that is not as its manifest says; None where it is whole."""


def version_name(run_id: str, version: int) -> str:
    """How a version is written: `RUN/v42`."""
    return f"{run_id}/v{version}"


def parse_version(store: SnapshotStore, text: str) -> Version:
    """The version that `v42`, `42` (of the newest run) or `RUN/v42` means.

    Raises `ValueError` for anything else, `SnapshotError` where no run is named and there is none.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ValueError(f"a version must be like v42, 42 or RUN/v42, got {text!r}")
    return match["run_id"] or newest(store).run_id, int(match["version"])


def newest(store: SnapshotStore) -> Pointer:
    """The pointer to the newest version; raises `SnapshotError` where nothing has been published."""
    pointer = store.latest()
    if pointer is None:
        settings = store.settings
        raise SnapshotError(f"nothing is published yet in {settings.url}, model {settings.model}: is it the right one?")
    return pointer


def standing_for(aliases: Aliases, name: str) -> Pointer:
    """What an alias stands for; one that nobody has made stands for the newest. Raises `SnapshotError`."""
    found = aliases.resolve(name) if name in aliases.list() else None
    return found or newest(aliases.store)


def version_before(store: SnapshotStore, pointer: Pointer) -> Version:
    """The newest version of the same run before that one that servers had; raises `SnapshotError` for none."""
    for version in reversed(store.versions(pointer.run_id)):
        if version < pointer.version and not store.manifest(pointer.run_id, version).held_back:
            return pointer.run_id, version
    name = version_name(pointer.run_id, pointer.version)
    raise SnapshotError(f"no version before {name} is left in its run: name one that `headwater snapshots ls` shows")


def list_snapshots(store: SnapshotStore, aliases: dict[str, Alias]) -> list[SnapshotRow]:
    """All published versions, the newest first; one whose manifest is damaged is listed with its problem."""
    latest = store.latest()
    versions = store.published()
    rows = [_row(store, version, _pointed_by(version, latest, aliases)) for version in versions]
    gone = _gone(store, [(row.run_id, row.version) for row in rows if row.problem])
    rows = [row for row in rows if (row.run_id, row.version) not in gone]
    return sorted(rows, key=lambda row: (row.created_ms, row.run_id, row.version), reverse=True)


def verify_snapshots(store: SnapshotStore, versions: Sequence[Version]) -> list[Verified]:
    """Read all of each version; what is found wrong is told, not raised."""
    return [_verified(store, run_id, version) for run_id, version in versions]


def verify_all_snapshots(store: SnapshotStore) -> list[Verified]:
    """Read all of every published version, without those that retention deletes meanwhile."""
    found = verify_snapshots(store, store.published())
    gone = _gone(store, [(each.run_id, each.version) for each in found if each.problem])
    return [each for each in found if (each.run_id, each.version) not in gone]


def named_versions(store: SnapshotStore) -> list[Version]:
    """What `latest` and the aliases name; raises `SnapshotError` where nothing is published."""
    pins = [alias.pinned for alias in Aliases(store).list().values()]
    return sorted({(named.run_id, named.version) for named in (newest(store), *pins) if named is not None})


def _verified(store: SnapshotStore, run_id: str, version: int) -> Verified:
    try:
        manifest = store.verify(run_id, version)
    except SnapshotError as error:
        return Verified(run_id=run_id, version=version, problem=str(error))
    num_bytes, names = sum(file.bytes for file in manifest.files), [file.name for file in manifest.files]
    return Verified(run_id=run_id, version=version, bytes=num_bytes, files=names)


def _row(store: SnapshotStore, version: Version, pointed_by: list[str]) -> SnapshotRow:
    try:
        manifest = store.manifest(*version)
    except SnapshotError as error:
        return SnapshotRow(run_id=version[0], version=version[1], pointed_by=pointed_by, problem=str(error))
    return SnapshotRow(
        run_id=manifest.run_id,
        version=manifest.version,
        pointed_by=pointed_by,
        kind=manifest.kind,
        bytes=sum(file.bytes for file in manifest.files),
        created_ms=manifest.created_ms,
        step=manifest.step,
        events=manifest.metrics.get("events"),
        hit_rate=manifest.metrics.get("hit_rate"),
        recent_hit_rate=manifest.metrics.get("window_hit_rate_all"),
        held_back=manifest.held_back or "",
    )


def _pointed_by(version: Version, latest: Pointer | None, aliases: dict[str, Alias]) -> list[str]:
    is_latest = latest is not None and (latest.run_id, latest.version) == version
    names = ["latest"] if is_latest else []
    for name, alias in sorted(aliases.items()):
        if alias.pinned is None and is_latest:
            names.append(name)
        if alias.pinned is not None and (alias.pinned.run_id, alias.pinned.version) == version:
            names.append(f"{name} (pinned)")
    return names


def _gone(store: SnapshotStore, versions: Sequence[Version]) -> set[Version]:
    return set(versions).difference(store.published()) if versions else set()
