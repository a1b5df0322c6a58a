"""From a full version to a delta, each version the base of the next one."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from storage.errors import SnapshotError
from storage.manifest import Manifest

MAX_LINKS: Final = 64
"""Most versions from a full one to a delta."""


class Held(NamedTuple):
    """Arrays of one file of a version that a reader has loaded before, unchanged."""

    manifest: Manifest
    arrays: Mapping[str, npt.NDArray[Any]]

    def precedes(self, manifest: Manifest) -> bool:
        """Whether it may be one of the versions that a delta is built upon."""
        is_earlier = self.manifest.run_id == manifest.run_id and self.manifest.version < manifest.version
        return is_earlier and manifest.kind == "delta"


def find_chain(manifest: Manifest, find: Callable[[str, int], Manifest], held: Held | None) -> list[Manifest]:
    """A version and its bases, the first one full or the one that is held; `find` gives a manifest by run and version.

    Raises `SnapshotError` where a base cannot be found, or has more than `MAX_LINKS` versions upon it.
    """
    chain = [manifest]
    while chain[-1].kind == "delta" and not (held and held.manifest == chain[-1]):
        if len(chain) == MAX_LINKS:
            raise SnapshotError(
                f"{manifest.run_id}/v{manifest.version} must be at most {MAX_LINKS} versions from a full one, "
                "got more: load another version"
            )
        chain.append(_base(chain[-1], find))
    return chain[::-1]


def _base(manifest: Manifest, find: Callable[[str, int], Manifest]) -> Manifest:
    assert manifest.base_version is not None
    try:
        return find(manifest.run_id, manifest.base_version)
    except SnapshotError as error:
        raise SnapshotError(
            f"{manifest.run_id}/v{manifest.version} is a delta and its base cannot be read: {error}"
        ) from error
