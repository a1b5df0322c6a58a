"""What a trainer's next version can be a delta of, and when it is to be full instead."""

from typing import NamedTuple

from storage.deltas import Files
from storage.manifest import Manifest, ManifestDraft
from storage.snapshot_settings import SnapshotSettings


class Published(NamedTuple):
    """A version with all of its arrays, by file."""

    manifest: Manifest
    files: Files


class Bases:
    """The last full version that this process has published, and the last version of all."""

    def __init__(self, settings: SnapshotSettings) -> None:
        self.settings = settings
        self._full: Published | None = None
        self._last: Published | None = None
        self._links: list[int] = []
        self._num_deltas = self._delta_bytes = 0

    def choose(self, draft: ManifestDraft, files: Files) -> Published | None:
        """What a version is to be a delta of; None where it is to be full.

        It is full if none of the process was before it, after `full_every` versions, where the deltas have grown beyond
        `max_delta_share` of the full version, and where it is no successor of the last one or has no rows to tell.
        """
        if self._full is None or self._last is None or not _continues(self._last, draft, files):
            return None
        most_bytes = self.settings.max_delta_share * _num_bytes(self._full.manifest)
        if self._num_deltas + 1 >= self.settings.full_every or self._delta_bytes > most_bytes:
            return None
        is_cumulative = (self._num_deltas + 1) % self.settings.cumulative_every == 0
        return self._full if is_cumulative else self._last

    def links(self, base: Published) -> list[int]:
        """Versions that a delta of this base needs."""
        return self._links[: self._links.index(base.manifest.version) + 1]

    def note(self, published: Published) -> None:
        """Take over a version, which is published whole; its arrays must not change any more."""
        manifest = published.manifest
        if self.settings.full_every == 1:
            return
        if manifest.base_version is None:
            self._full, self._links = published, []
            self._num_deltas = self._delta_bytes = 0
        else:
            self._links = self._links[: self._links.index(manifest.base_version) + 1]
            self._num_deltas += 1
            self._delta_bytes += _num_bytes(manifest)
        self._last = published
        self._links.append(manifest.version)


def _continues(last: Published, draft: ManifestDraft, files: Files) -> bool:
    former = last.manifest
    return (
        former.run_id == draft.run_id
        and former.version < draft.version
        and last.files.keys() == files.keys()
        and any(table.columns for table in draft.tables.values())
    )


def _num_bytes(manifest: Manifest) -> int:
    return sum(file.bytes for file in manifest.files)
