"""Verbs of published versions: list, verify, roll back, release, clean up, compare, export."""

import getpass
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from msgspec import to_builtins

from deploy.cli_app import JsonFile, say, snapshots_app
from deploy.json_file import write_json
from storage.alias import CHAMPION, Alias
from storage.snapshot_settings import SnapshotSettings

AliasName = Annotated[str, Parameter(help="The alias to move; servers follow the one that `serve.alias` names.")]
Reason = Annotated[str, Parameter(help="Why, in a line, for those who look at the alias later.")]


@snapshots_app.command
def ls(*, json: JsonFile = None, snapshots: SnapshotSettings = SnapshotSettings()) -> int:  # noqa: B008 - frozen
    """List the published versions, the newest first, and what points to them.

    `latest` is the newest, which the learner moves; aliases are what servers follow, which operators move.
    """
    from deploy.snapshot_tables import alias_line, print_table, snapshot_table
    from deploy.snapshots import list_snapshots
    from storage.aliases import Aliases
    from storage.errors import SnapshotError
    from storage.snapshot_store import SnapshotStore

    store = SnapshotStore(snapshots)
    aliases: dict[str, Alias] = {}
    problem = None
    try:
        aliases = Aliases(store).list()
    # The versions are what one needs to see when an alias is damaged.
    except SnapshotError as error:
        problem = str(error)
    rows = list_snapshots(store, aliases)
    write_json(json, {"versions": to_builtins(rows), "aliases": to_builtins(aliases), "problem": problem})
    print_table(snapshot_table(rows))
    for name, alias in aliases.items():
        say(alias_line(name, alias))
    if problem is not None:
        say(problem)
    return 0


@snapshots_app.command
def verify(
    *versions: str,
    all_versions: Annotated[bool, Parameter(name="--all", negative="", help="Every published version.")] = False,
    json: JsonFile = None,
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Read versions whole: sizes, checksums, and that every array loads.

    Versions are v42 or 42 (of the newest run) or RUN/v42; without any, those that `latest` and the aliases name.
    Exit code 0 where all are whole, 1 where any is damaged or absent.
    """
    from deploy.snapshots import named_versions, parse_version, verify_all_snapshots, verify_snapshots, version_name
    from storage.snapshot_store import SnapshotStore

    if versions and all_versions:
        raise ValueError("name versions or give --all, not both")
    store = SnapshotStore(snapshots)
    chosen = [parse_version(store, text) for text in versions]
    found = verify_all_snapshots(store) if all_versions else verify_snapshots(store, chosen or named_versions(store))
    write_json(json, to_builtins(found))
    for each in found:
        whole = f"whole, {each.bytes:,} bytes in {', '.join(each.files)}"
        say(f"{version_name(each.run_id, each.version)}  {f'damaged: {each.problem}' if each.problem else whole}")
    num_damaged = sum(each.problem is not None for each in found)
    say(f"{len(found) - num_damaged} of {len(found)} whole")
    return 1 if num_damaged else 0


@snapshots_app.command
def rollback(
    version: str = "",
    /,
    *,
    alias: AliasName = CHAMPION,
    reason: Reason = "",
    json: JsonFile = None,
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Have servers answer with an older version, until it is released.

    VERSION is v42 or 42 (of the newest run) or RUN/v42; without it, the version before the one that answers now. It is
    read whole first, then the alias is pinned to it: servers follow within seconds, retention keeps it, and the
    learner goes on learning and publishing. `headwater snapshots release` ends it.
    """
    from deploy.snapshots import parse_version, standing_for, version_before, version_name
    from storage.aliases import Aliases
    from storage.snapshot_store import SnapshotStore

    store = SnapshotStore(snapshots)
    aliases = Aliases(store)
    former = standing_for(aliases, alias)
    run_id, number = parse_version(store, version) if version else version_before(store, former)
    moved = aliases.pin(alias, run_id, number, moved_ms=_now_ms(), moved_by=_user(), reason=reason)
    was, now = version_name(former.run_id, former.version), version_name(run_id, number)
    write_json(json, {"alias": alias, "from": was, "to": now, **to_builtins(moved)})
    say(f"{alias}: {was} -> {now}, pinned, generation {moved.generation}")
    _say_if_new(alias, moved)
    release = "headwater snapshots release" + ("" if alias == CHAMPION else f" --alias {alias}")
    say(f"the learner goes on publishing; servers answer with {now} until: {release}")
    return 0


@snapshots_app.command
def release(
    *,
    alias: AliasName = CHAMPION,
    reason: Reason = "",
    json: JsonFile = None,
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """End a rollback: servers answer with the newest version again, and with each that is published.

    An alias that is not there yet is made so.
    """
    from deploy.snapshots import newest, standing_for, version_name
    from storage.aliases import Aliases
    from storage.snapshot_store import SnapshotStore

    store = SnapshotStore(snapshots)
    aliases = Aliases(store)
    former = standing_for(aliases, alias)
    moved = aliases.release(alias, moved_ms=_now_ms(), moved_by=_user(), reason=reason)
    latest = newest(store)
    was, now = version_name(former.run_id, former.version), version_name(latest.run_id, latest.version)
    write_json(json, {"alias": alias, "from": was, "to": now, **to_builtins(moved)})
    say(f"{alias}: {was} -> {now}, tracks latest, generation {moved.generation}")
    _say_if_new(alias, moved)
    return 0


@snapshots_app.command
def gc(
    *,
    dry_run: Annotated[bool, Parameter(negative="", help="Say what would be deleted, and delete nothing.")] = False,
    json: JsonFile = None,
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Delete what retention allows: all but the newest, `snapshots.keep` others, and what aliases are pinned to.

    The learner does so itself with each version that it publishes.
    """
    from storage.snapshot_store import SnapshotStore

    store = SnapshotStore(snapshots)
    paths = store.expendable()
    for path in paths:
        if not dry_run:
            store.objects.delete(path)
        say(path)
    write_json(json, {"dry_run": dry_run, "paths": paths})
    say(f"{len(paths)} files {'would be deleted' if dry_run else 'deleted'}")
    return 0


@snapshots_app.command
def diff(
    a: str,
    b: str,
    /,
    *,
    file: Annotated[str, Parameter(help="Which file: model (what servers read) or trainer.")] = "model",
    json: JsonFile = None,
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Compare two versions: which arrays differ, in how many rows and by how much, and the figures of both.

    Versions are v42 or 42 (of the newest run) or RUN/v42.
    """
    from deploy.snapshot_diff import diff_snapshots
    from deploy.snapshot_tables import array_table, metric_table, print_table
    from deploy.snapshots import parse_version, version_name
    from storage.snapshot_store import SnapshotStore

    store = SnapshotStore(snapshots)
    version_a, version_b = parse_version(store, a), parse_version(store, b)
    found = diff_snapshots(store, store.manifest(*version_a), store.manifest(*version_b), file)
    names = version_name(*version_a), version_name(*version_b)
    write_json(json, {"a": names[0], "b": names[1], "file": file, **to_builtins(found)})
    say(f"A is {names[0]}, B is {names[1]}: {len(found.arrays)} of {found.num_arrays} arrays of {file} differ")
    for table, rows in found.tables.items():
        say(f"table {table}: {rows['rows_a']:,} rows in A, {rows['rows_b']:,} in B; {rows['differ']:,} of both differ")
    print_table(array_table(found))
    print_table(metric_table(found))
    return 0


@snapshots_app.command
def export(
    version: str = "",
    /,
    *,
    to: Annotated[Path, Parameter(help="The folder to write: absent or empty, nothing is replaced.")],
    onnx: Annotated[bool, Parameter(negative="", help="Write the programs as ONNX, too (headwater[onnx]).")] = False,
    json: JsonFile = None,
    snapshots: SnapshotSettings = SnapshotSettings(),  # noqa: B008 - frozen
) -> int:
    """Write a version as a folder that others serve from without Headwater.

    VERSION is v42 or 42 (of the newest run) or RUN/v42; without it, the version that servers answer with now. The
    folder holds all weights (model.safetensors), the items (vocabulary.parquet), torch.export programs for retrieval
    and ranking, config.json, and reader.py, which needs torch, numpy, safetensors and pyarrow and teaches how to use
    them. Before it gets its name it is loaded in a process without Headwater and held against our own scores: exit
    code 1, and no folder, where one differs by more than 1e-5.
    """
    from deploy.export import ExportDiffersError, export_snapshot
    from deploy.snapshots import parse_version, standing_for
    from storage.aliases import Aliases
    from storage.snapshot_store import SnapshotStore

    store = SnapshotStore(snapshots)
    if version:
        manifest = store.manifest(*parse_version(store, version))
    else:
        answering = standing_for(Aliases(store), CHAMPION)
        manifest = store.manifest(answering.run_id, answering.version, answering.manifest_sha256)
    try:
        exported = export_snapshot(store, manifest, to, onnx=onnx, say=say)
    except ExportDiffersError as error:
        say(f"{error}; {to} was not written")
        return 1
    write_json(json, to_builtins(exported))
    say(f"its scores are ours: largest difference {exported.largest_difference:.1e}, allowed is 1e-05")
    say(f"{to}: {exported.version}, {sum(exported.bytes.values()):,} bytes; its README.md says how to load it")
    return 0


def _say_if_new(name: str, alias: Alias) -> None:
    if name != CHAMPION and alias.generation == 1:
        say(f"{name} is new: servers follow it that are started with --serve.alias {name}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _user() -> str:
    try:
        return getpass.getuser()
    # A container may run under a number that has no name.
    except (KeyError, OSError):
        return ""
