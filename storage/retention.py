"""Which objects of a model's snapshots may go."""

import re
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from itertools import islice
from typing import NamedTuple

from storage.objects import Listed

ORPHAN_AGE = timedelta(hours=1)
"""From when on files without a manifest, of another run, are leftovers and not a version being written."""

VERSION_FILE = re.compile(r"[^/]+/(?P<run_id>[^/]+)/v(?P<version>\d{9})/(?P<name>[^/]+)")


class Facts(NamedTuple):
    """What retention has to know of a version."""

    base: int | None
    """What it is a delta of."""
    is_held_back: bool = False


def expendable(
    objects: Iterable[Listed],
    *,
    run_id: str,
    version: int,
    keep: int,
    facts_of: Callable[[str, int], Facts],
    pinned: Collection[tuple[str, int]] = (),
) -> list[str]:
    """Paths of what may be deleted: deltas before their bases, each version's manifest before its files.

    `run_id` and `version` are what the pointer names; that stays, and so do those that are `pinned`, as (run, version),
    and the `keep` newest others: those of the same run by number, then those of other runs by the time of their
    manifests. Of those that were held back the newest stays, for inspection, and takes nobody's place. With each of
    them stays what it is a delta of. Nothing may go where the version that the pointer names is not listed: then
    another trainer is at work. Files without a manifest go if they are of an earlier version of the run, or of another
    run and old.
    """
    versions: dict[tuple[str, int], dict[str, Listed]] = {}
    for listed in objects:
        match = VERSION_FILE.fullmatch(listed.path)
        if match:
            files = versions.setdefault((match["run_id"], int(match["version"])), {})
            files[match["name"]] = listed
    named = versions.get((run_id, version), {}).get("manifest.json")
    if named is None:
        return []
    whole = {key: files["manifest.json"] for key, files in versions.items() if "manifest.json" in files}
    fixed = {(run_id, version), *pinned}
    own = sorted((key for key in whole.keys() - fixed if key[0] == run_id), reverse=True)
    others = (key for key in whole.keys() - fixed if key[0] != run_id)
    newest = own + sorted(others, key=lambda key: whole[key].modified, reverse=True)
    good = (key for key in newest if not facts_of(*key).is_held_back)
    held_back = (key for key in newest if facts_of(*key).is_held_back)
    kept = [*(fixed & whole.keys()), *islice(good, keep), *islice(held_back, 1)]
    staying = _with_bases(kept, facts_of)
    # A base has a lower number than its deltas.
    going = [versions[key] for key in sorted(whole.keys() - staying, key=lambda key: key[1], reverse=True)]
    going += [
        files
        for key, files in versions.items()
        if key not in whole.keys() | fixed and _is_orphan(key, files, run_id, version, named)
    ]
    return [path for files in going for path in _manifest_first(files)]


def _with_bases(versions: Iterable[tuple[str, int]], facts_of: Callable[[str, int], Facts]) -> set[tuple[str, int]]:
    staying: set[tuple[str, int]] = set()
    for run_id, newest in versions:
        version: int | None = newest
        while version is not None and (run_id, version) not in staying:
            staying.add((run_id, version))
            version = facts_of(run_id, version).base
    return staying


def _is_orphan(key: tuple[str, int], files: dict[str, Listed], run_id: str, version: int, named: Listed) -> bool:
    if key[0] == run_id:
        return key[1] < version
    return named.modified - max(listed.modified for listed in files.values()) > ORPHAN_AGE


def _manifest_first(files: dict[str, Listed]) -> list[str]:
    return [files[name].path for name in sorted(files, key=lambda name: (name != "manifest.json", name))]
