"""Versions of a model: full ones and deltas as safetensors, each with a manifest, and a pointer to the newest."""

import logging
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from safetensors import SafetensorError
from safetensors.numpy import load, save

from storage.alias import pinned_versions
from storage.bases import Bases, Published
from storage.chain import Held, find_chain
from storage.deltas import Arrays, Files, apply_delta, check_names, make_deltas
from storage.digest import state_digest
from storage.errors import SnapshotError, SnapshotExistsError
from storage.manifest import (
    MAX_MANIFEST_BYTES,
    MAX_POINTER_BYTES,
    Manifest,
    ManifestDraft,
    Pointer,
    SnapshotFile,
    decode_manifest,
    decode_pointer,
    encode_manifest,
    encode_pointer,
    make_manifest,
    sha256_of,
)
from storage.objects import Listed, Objects, Tagged
from storage.retention import VERSION_FILE, Facts, expendable
from storage.snapshot_settings import SnapshotSettings

_KNOWN_FACTS = 1_024
"""Versions of which it is remembered what retention has to know."""

_log = logging.getLogger(__name__)


class SnapshotStore:
    """The published versions of one model."""

    def __init__(self, settings: SnapshotSettings) -> None:
        self.settings = settings
        self._objects = Objects(settings.url)
        self._bases = Bases(settings)
        self._expected: list[Pointer | None] = []
        """What `latest` has to be when this trainer publishes; empty before it is known."""
        self._facts_of = lru_cache(_KNOWN_FACTS)(self._read_facts)

    def publish(self, files: Mapping[str, Mapping[str, npt.NDArray[Any]]], draft: ManifestDraft) -> Manifest:
        """Write a version, as a delta where that is due (see `Bases`), and point to it.

        1. Write each file.
        2. Write the manifest, which must not be there yet.
        3. Move the pointer to it, unless the draft says why it is held back.
        4. Delete versions that nothing needs any more.

        The arrays are kept, to tell the next versions by them; where they were changed, the next version is full, and
        nothing is told by a version that was held back. Metrics that are not finite are left out. Raises
        `SnapshotExistsError` where another trainer has published this version or moved the pointer since this one did
        (see `go_on_from`), `SnapshotError` where the store fails, `ValueError` for a draft out of range or arrays that
        no delta could tell.
        """
        self._own_pointer()
        nothing = "0" * 32
        make_manifest(
            draft, [SnapshotFile(name=name, bytes=0, checksum=nothing, state_digest=nothing) for name in files]
        )
        check_names(files, draft.tables)
        place = self._path(draft.run_id, draft.version, "manifest.json")
        # The files of a published version must not be written over, so step 2 alone would refuse too late.
        if self._objects.get(place, MAX_MANIFEST_BYTES) is not None:
            raise SnapshotExistsError(f"{place} is already in {self.settings.url}: publish a higher version")
        ordered = {name: {key: np.asarray(array, order="C") for key, array in files[name].items()} for name in files}
        base = self._base(ordered, draft)
        # Step 1.
        told = ordered if base is None else make_deltas(base.files, ordered, draft.tables)
        written = [self._write(draft, name, told[name], state_digest(ordered[name])) for name in sorted(ordered)]
        manifest = make_manifest(draft, written, None if base is None else base.manifest.version)
        # Step 2.
        encoded = encode_manifest(manifest)
        self._objects.create(place, encoded)
        # Step 3.
        if not draft.held_back:
            self._point(draft, sha256_of(encoded))
            self._bases.note(Published(manifest, ordered))
        # Step 4.
        self._retire()
        return manifest

    def go_on_from(self, pointer: Pointer | None) -> None:
        """Publish only as long as `latest` is this, or what this store has moved it to since.

        So a trainer that was away while another took over stops instead of taking servers back to what it knows.
        """
        self._expected = [pointer]

    @property
    def objects(self) -> Objects:
        """Where the versions lie."""
        return self._objects

    def expendable(self) -> list[str]:
        """Paths of what retention allows to delete now, each version's manifest before its files.

        Raises `SnapshotError` where an alias is damaged: then nobody knows what it is pinned to.
        """
        # Listed before the pointer is read: a version that is published in between is not listed, and nothing goes.
        listed = self._objects.list(self.settings.model)
        pointer = self.latest()
        if pointer is None:
            return []
        pinned = pinned_versions(self._objects, self.settings.model)
        # The newest stays even where none is to be kept: it may be listed before the pointer names it.
        keep = max(1, self.settings.keep)
        return self._expendable(listed, pointer, keep, pinned)

    def latest(self) -> Pointer | None:
        """The pointer to the newest version; None before the first."""
        pointed = self.pointed()
        return None if pointed is None else pointed[0]

    def pointed(self) -> tuple[Pointer, int] | None:
        """The pointer to the newest version, and when it was moved there by the store's clock, in ms since 1970."""
        path = f"{self.settings.model}/latest"
        found = self._objects.get_tagged(path, MAX_POINTER_BYTES)
        return None if found is None else (decode_pointer(found.value, path), int(found.modified.timestamp() * 1000))

    def manifest(self, run_id: str, version: int, sha256: str | None = None) -> Manifest:
        """A version's manifest; `sha256`, where given, is what its bytes must hash to.

        Raises `SnapshotError` if it is absent, damaged, of another version or of another format.
        """
        path, value = self._manifest_bytes(run_id, version)
        if sha256 is not None and sha256_of(value) != sha256:
            raise SnapshotError(f"{path} must have sha256 {sha256}, got {sha256_of(value)}")
        manifest = decode_manifest(value, path)
        if (manifest.run_id, manifest.version) != (run_id, version):
            raise SnapshotError(f"{path} is the manifest of {manifest.run_id}/v{manifest.version}")
        return manifest

    def manifest_sha256(self, run_id: str, version: int) -> str:
        """What a version's manifest hashes to; raises `SnapshotError` if it is absent."""
        return sha256_of(self._manifest_bytes(run_id, version)[1])

    def verify(self, run_id: str, version: int, sha256: str | None = None) -> Manifest:
        """Read all of a version; raises `SnapshotError` for the first thing that is not as its manifest says."""
        manifest = self.manifest(run_id, version, sha256)
        for file in manifest.files:
            self.load(manifest, file.name)
        return manifest

    def versions(self, run_id: str) -> list[int]:
        """Published versions of a run, ascending."""
        folder = f"{self.settings.model}/{run_id}"
        manifests = [listed.path for listed in self._objects.list(folder) if listed.path.endswith("/manifest.json")]
        return sorted(int(path.split("/")[-2][1:]) for path in manifests)

    def published(self) -> list[tuple[str, int]]:
        """Published versions of all runs, as (run, version), ascending."""
        found = [VERSION_FILE.fullmatch(listed.path) for listed in self._objects.list(self.settings.model)]
        return sorted((m["run_id"], int(m["version"])) for m in found if m and m["name"] == "manifest.json")

    def load(self, manifest: Manifest, name: str, held: Held | None = None) -> dict[str, npt.NDArray[Any]]:
        """Arrays of one file of a version, all of its chain checked by sizes and checksums, the outcome by its digest.

        Of what is `held`, as another version had it, only what came after is read. Raises `SnapshotError` where a
        version of the chain is absent or damaged, or does not fit.
        """
        first, *deltas = find_chain(manifest, self.manifest, held)
        arrays = dict(held.arrays) if held and held.manifest == first else self._read(first, name)
        for each in deltas:
            delta = self._read(each, name)
            try:
                arrays = apply_delta(arrays, delta, each.tables)
            except ValueError as error:
                path = self._path(each.run_id, each.version, f"{name}.safetensors")
                raise SnapshotError(f"{path} is no delta of v{each.base_version}: {error}") from error
        wanted = _file(manifest, name).state_digest
        if wanted is not None and state_digest(arrays) != wanted:
            path = self._path(manifest.run_id, manifest.version, f"{name}.safetensors")
            raise SnapshotError(f"{path} must lead to arrays of digest {wanted}, got {state_digest(arrays)}")
        return arrays

    def _read(self, manifest: Manifest, name: str) -> dict[str, npt.NDArray[Any]]:
        """What one file of a version holds."""
        file = _file(manifest, name)
        path = self._path(manifest.run_id, manifest.version, f"{name}.safetensors")
        value = self._objects.get(path, file.bytes)
        if value is None or len(value) != file.bytes:
            got = "none" if value is None else f"{len(value)} bytes"
            raise SnapshotError(f"{path} must have {file.bytes} bytes, got {got}")
        checksum = xxhash.xxh3_128_hexdigest(value)
        if checksum != file.checksum:
            raise SnapshotError(f"{path} must have xxh3-128 {file.checksum}, got {checksum}")
        try:
            return load(value)
        # The latter for a dtype that numpy does not have.
        except (SafetensorError, KeyError) as error:
            raise SnapshotError(f"{path} is no safetensors file: {error}") from error

    def _base(self, files: Files, draft: ManifestDraft) -> Published | None:
        """What a version is to be a delta of, as long as all of its chain is still there, and its arrays unchanged."""
        base = self._bases.choose(draft, files)
        if base is None or not set(self._bases.links(base)) <= set(self.versions(draft.run_id)):
            return None
        unchanged = all(state_digest(base.files[file.name]) == file.state_digest for file in base.manifest.files)
        return base if unchanged else None

    def _read_facts(self, run_id: str, version: int) -> Facts:
        """What retention has to know of a version; one that cannot be loaded needs nothing any more."""
        path = self._path(run_id, version, "manifest.json")
        value = self._objects.get(path, MAX_MANIFEST_BYTES)
        try:
            manifest = None if value is None else decode_manifest(value, path)
        except SnapshotError:
            manifest = None
        if manifest is None:
            return Facts(None)
        return Facts(manifest.base_version if manifest.kind == "delta" else None, bool(manifest.held_back))

    def _write(self, draft: ManifestDraft, name: str, arrays: Arrays, digest: str) -> SnapshotFile:
        value = save(dict(arrays))
        self._objects.put(self._path(draft.run_id, draft.version, f"{name}.safetensors"), value)
        checksum = xxhash.xxh3_128_hexdigest(value)
        return SnapshotFile(name=name, bytes=len(value), checksum=checksum, state_digest=digest)

    def _own_pointer(self) -> tuple[Pointer | None, Tagged | None]:
        """The pointer, and what is to be replaced by the next; raises `SnapshotExistsError` where another moved it."""
        path = f"{self.settings.model}/latest"
        tagged = self._objects.get_tagged(path, MAX_POINTER_BYTES)
        pointer = None if tagged is None else decode_pointer(tagged.value, path)
        if self._expected and pointer not in self._expected:
            raise SnapshotExistsError(
                f"{path} in {self.settings.url} must name {_named(self._expected[0])}, as this trainer left it, "
                f"got {_named(pointer)}: another trainer has taken over; stop one of them"
            )
        return pointer, tagged

    def _point(self, draft: ManifestDraft, sha256: str) -> None:
        former, tagged = self._own_pointer()
        generation = former.generation + 1 if former else 1
        pointer = Pointer(generation=generation, run_id=draft.run_id, version=draft.version, manifest_sha256=sha256)
        self._objects.swap(f"{self.settings.model}/latest", encode_pointer(pointer), tagged)
        self.go_on_from(pointer)

    def _retire(self) -> None:
        """Delete what nothing needs any more."""
        listed, pointer = self._objects.list(self.settings.model), self.latest()
        try:
            pinned = pinned_versions(self._objects, self.settings.model)
        except SnapshotError as error:
            # Training goes on; that nothing is deleted costs space only.
            _log.warning("no version is deleted, for nobody knows what is pinned: %s", error)
            return
        if pointer is not None:
            for path in self._expendable(listed, pointer, self.settings.keep, pinned):
                self._objects.delete(path)

    def _expendable(
        self, listed: list[Listed], pointer: Pointer, keep: int, pinned: Collection[tuple[str, int]]
    ) -> list[str]:
        return expendable(
            listed, run_id=pointer.run_id, version=pointer.version, keep=keep, facts_of=self._facts_of, pinned=pinned
        )

    def _manifest_bytes(self, run_id: str, version: int) -> tuple[str, bytes]:
        path = self._path(run_id, version, "manifest.json")
        value = self._objects.get(path, MAX_MANIFEST_BYTES)
        if value is None:
            raise SnapshotError(f"{path} is not in {self.settings.url}: it was never published, or is deleted by now")
        return path, value

    def _path(self, run_id: str, version: int, name: str) -> str:
        return f"{self.settings.model}/{run_id}/v{version:09d}/{name}"


def _file(manifest: Manifest, name: str) -> SnapshotFile:
    file = next((file for file in manifest.files if file.name == name), None)
    if file is None:
        raise SnapshotError(
            f"{manifest.run_id}/v{manifest.version} has no file {name!r}: "
            f"it has {', '.join(file.name for file in manifest.files)}"
        )
    return file


def _named(pointer: Pointer | None) -> str:
    return "nothing" if pointer is None else f"{pointer.run_id}/v{pointer.version} (generation {pointer.generation})"
