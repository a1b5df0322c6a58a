"""Which objects of a model's snapshots may go."""

import re
from collections.abc import Collection, Iterable
from datetime import timedelta

from storage.objects import Listed

ORPHAN_AGE = timedelta(hours=1)
"""From when on files without a manifest, of another run, are leftovers and not a version being written."""

VERSION_FILE = re.compile(r"[^/]+/(?P<run_id>[^/]+)/v(?P<version>\d{9})/(?P<name>[^/]+)")


def expendable(
    objects: Iterable[Listed], *, run_id: str, version: int, keep: int, pinned: Collection[tuple[str, int]] = ()
) -> list[str]:
    """Paths of what may be deleted, each version's manifest before its files.

    `run_id` and `version` are what the pointer names; that stays, and so do those that are `pinned`, as (run, version),
    and the `keep` newest others: those of the same run by number, then those of other runs by the time of their
    manifests. Nothing may go where the version that
    the pointer names is not listed: then another trainer is at work. Files without a manifest go if they
    are of an earlier version of the run, or of another run and old.
    """
    versions: dict[tuple[str, int], dict[str, Listed]] = {}
    for listed in objects:
        match = VERSION_FILE.fullmatch(listed.path)
        if match:
            files = versions.setdefault((match["run_id"], int(match["version"])), {})
            files[match["name"]] = listed
    named = versions.pop((run_id, version), {}).get("manifest.json")
    if named is None:
        return []
    for key in pinned:
        versions.pop(key, None)
    whole = {key: files["manifest.json"] for key, files in versions.items() if "manifest.json" in files}
    own = sorted((key for key in whole if key[0] == run_id), reverse=True)
    others = sorted((key for key in whole if key[0] != run_id), key=lambda key: whole[key].modified, reverse=True)
    going = [versions[key] for key in (own + others)[keep:]]
    going += [
        files for key, files in versions.items() if key not in whole and _is_orphan(key, files, run_id, version, named)
    ]
    return [path for files in going for path in _manifest_first(files)]


def _is_orphan(key: tuple[str, int], files: dict[str, Listed], run_id: str, version: int, named: Listed) -> bool:
    if key[0] == run_id:
        return key[1] < version
    return named.modified - max(listed.modified for listed in files.values()) > ORPHAN_AGE


def _manifest_first(files: dict[str, Listed]) -> list[str]:
    return [files[name].path for name in sorted(files, key=lambda name: (name != "manifest.json", name))]
