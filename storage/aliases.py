"""Aliases over a model's published versions: what servers follow, and what operators move."""

from msgspec.structs import replace

from storage.alias import CHAMPION, Alias, Pin, alias_path, decode_alias, encode_alias, read_aliases
from storage.errors import SnapshotError
from storage.manifest import MAX_POINTER_BYTES, Pointer
from storage.objects import Tagged
from storage.snapshot_store import SnapshotStore


class Resolved(Pointer, frozen=True, kw_only=True):
    """The version that an alias stands for now, with the alias' generation."""

    pinned: bool
    moved_ms: int
    """When it came to stand for that: when the pointer was moved there, or the alias if that was later."""

    @property
    def target(self) -> tuple[str, int, str]:
        """What it stands for, whatever moved it there: run, version and the manifest's sha256."""
        return self.run_id, self.version, self.manifest_sha256


class Aliases:
    """Names that point to versions of a store: each tracks `latest`, or is pinned until it is released.

    The learner never moves them. Each move takes the generation one higher, whichever way it goes. Two moves at once
    are told apart where the store can compare and write in one step, and the later is refused; in a folder the object
    is looked at again right before it is replaced, and of two that meet in between the later stays.
    """

    def __init__(self, store: SnapshotStore) -> None:
        self.store = store

    def get(self, name: str) -> Alias:
        """Where an alias points; `champion` tracks `latest` where nobody has moved it.

        Raises `SnapshotError` if it is damaged, or absent with another name, `ValueError` for what is no name.
        """
        found, _ = self._read(name)
        if found is not None:
            return found
        if name != CHAMPION:
            raise SnapshotError(f"there is no alias {name} in {self.store.settings.url}: pin or release it to make it")
        return Alias(generation=0, tracks="latest")

    def list(self) -> dict[str, Alias]:
        """All aliases by name, `champion` always among them; raises `SnapshotError` if one is damaged."""
        found = {CHAMPION: self.get(CHAMPION)}
        return found | read_aliases(self.store.objects, self.store.settings.model)

    def resolve(self, name: str) -> Resolved | None:
        """The version that an alias stands for now; None where it tracks `latest` and nothing is published.

        Raises as `get` does. Whether a pinned version can be loaded is not looked at.
        """
        alias = self.get(name)
        named: Pin | Pointer
        if alias.pinned is not None:
            named, moved_ms = alias.pinned, alias.moved_ms
        elif (pointed := self.store.pointed()) is not None:
            named, moved_ms = pointed[0], max(pointed[1], alias.moved_ms)
        else:
            return None
        return Resolved(
            generation=alias.generation,
            run_id=named.run_id,
            version=named.version,
            manifest_sha256=named.manifest_sha256,
            pinned=alias.pinned is not None,
            moved_ms=moved_ms,
        )

    def pin(
        self, name: str, run_id: str, version: int, *, moved_ms: int, moved_by: str = "", reason: str = ""
    ) -> Alias:
        """Hold an alias to a version, until it is released or pinned anew.

        1. Read every file of the version and check it.
        2. Write the alias.
        3. See whether the version is still there, for retention may have begun before; if not, put the alias back.

        Raises `SnapshotError` where the version is absent or damaged, or the alias was moved meanwhile; `ValueError`
        for a name, a run or a reason out of range.
        """
        former, tag = self._read(name)
        sha256 = self.store.manifest_sha256(run_id, version)
        alias = Alias(
            generation=_next(former),
            pinned=Pin(run_id=run_id, version=version, manifest_sha256=sha256),
            moved_ms=moved_ms,
            moved_by=moved_by,
            reason=reason,
        )
        encoded = encode_alias(alias)
        # Step 1.
        self.store.verify(run_id, version, sha256)
        # Step 2.
        self.store.objects.swap(alias_path(self.store.settings.model, name), encoded, tag)
        # Step 3.
        try:
            self.store.manifest(run_id, version, sha256)
        except SnapshotError:
            self._put_back(name, alias, former)
            raise
        return alias

    def release(self, name: str, *, moved_ms: int, moved_by: str = "", reason: str = "") -> Alias:
        """Have an alias track `latest` again, or for the first time; raises as `pin` does."""
        former, tag = self._read(name)
        alias = Alias(generation=_next(former), tracks="latest", moved_ms=moved_ms, moved_by=moved_by, reason=reason)
        self.store.objects.swap(alias_path(self.store.settings.model, name), encode_alias(alias), tag)
        return alias

    def _read(self, name: str) -> tuple[Alias | None, Tagged | None]:
        path = alias_path(self.store.settings.model, name)
        tagged = self.store.objects.get_tagged(path, MAX_POINTER_BYTES)
        return (None if tagged is None else decode_alias(tagged.value, path)), tagged

    def _put_back(self, name: str, moved: Alias, former: Alias | None) -> None:
        found, tag = self._read(name)
        if found == moved:
            back = replace(former or Alias(generation=0, tracks="latest"), generation=_next(moved))
            self.store.objects.swap(alias_path(self.store.settings.model, name), encode_alias(back), tag)


def _next(former: Alias | None) -> int:
    return 1 if former is None else former.generation + 1
