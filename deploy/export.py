"""A version as a folder that serving without Headwater loads: weights, vocabulary, programs, and what reads them.

What is learned and dense is in the programs (`model.programs`); what is found by id or counted lies in
`model.safetensors` and is looked up by the reader (`export_reader.py`).
"""

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save_file

from deploy import export_check, export_reader
from deploy.export_check import TOLERANCE
from deploy.export_config import export_config, file_digests
from deploy.export_onnx import check_onnx, write_onnx
from deploy.export_probes import make_probes
from model.contents import Contents
from model.item_keys import item_keys
from model.network import Network, load_dense
from model.packed_ids import unpack_ids
from model.programs import export_programs
from model.recommender import Recommender
from model.settings import ModelSettings
from storage.errors import HeadwaterError, SetupError, SnapshotError
from storage.manifest import Manifest
from storage.snapshot_store import SnapshotStore

OURS = ("deploy", "model", "storage", "streams")
"""Packages that an export must do without."""
_CHECK_SECONDS = 600
_README = """# A version of a recommender, to be served without Headwater

Version {version}, {num_items:,} items, actions {actions}. `reader.py` needs Python 3.11, torch {torch} or newer,
numpy, safetensors and pyarrow, and xxhash for ids that are not in `vocabulary.parquet`.

    from reader import Events, Reader
    reader = Reader(".")
    events = Events(item_ids=[...], ts_ms=[...], actions=[reader.mask("{action}")], groups=[0])
    reader.recommend(events, now_ms=..., k=10)
    reader.rank(events, now_ms=..., item_ids=[...])

`python check.py` holds what this machine answers against what Headwater did. `config.json` tells the inputs and outputs
of `retrieval.pt2` and `ranking.pt2`, and the sha256 of every file: against damage, not against whoever made the folder.
"""


class ExportDiffersError(HeadwaterError):
    """What the folder answers is not what Headwater answers."""


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written."""

    folder: str
    version: str
    items: int
    bytes: dict[str, int]
    probes: int
    largest_difference: float
    """Between the folder's answers in a process of its own and Headwater's, above 1 as a share of it."""


def export_snapshot(
    store: SnapshotStore,
    manifest: Manifest,
    folder: Path,
    *,
    onnx: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write a version as a folder of its own.

    1. Read the version, the chain of a delta too.
    2. Write all files into a folder beside that one, `config.json` with their sha256 last.
    3. Load it in a fresh process, without Headwater, and hold its answers against ours.
    4. Rename it.

    A death at any step leaves at most the folder beside, whose name begins with a dot. Raises `ExportDiffersError`
    where the answers differ, `SetupError` where the folder holds something or cannot be written, `SnapshotError` where
    the version is absent or damaged.
    """
    check_target(folder)
    if onnx:
        check_onnx()
    version = f"{manifest.run_id}/v{manifest.version}"
    # Step 1.
    say(f"reading {version}")
    arrays, sha256 = store.load(manifest, "model"), store.manifest_sha256(manifest.run_id, manifest.version)
    beside = folder.absolute().parent / f".{folder.absolute().name}.{uuid.uuid4().hex[:8]}"
    try:
        beside.mkdir(parents=True)
        # Step 2.
        num_items, num_probes = write_export(beside, manifest, sha256, arrays, onnx=onnx, say=say)
        sizes = {file.name: file.stat().st_size for file in sorted(beside.iterdir())}
        # Step 3.
        say(f"loading it in a process without Headwater: {num_probes} histories")
        difference = check_export(beside)
        if difference > TOLERANCE:
            raise ExportDiffersError(f"scores of {version} differ by {difference:.1e}, allowed is {TOLERANCE:.0e}")
        # Step 4.
        beside.rename(folder)
    except OSError as error:
        raise SetupError(f"cannot write {folder}: {error.strerror}; name another folder with --to") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(
        folder=str(folder),
        version=version,
        items=num_items,
        bytes=sizes,
        probes=num_probes,
        largest_difference=difference,
    )


def check_target(folder: Path) -> None:
    """Raise `SetupError` where something is in the folder, or it is none."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SetupError(f"{folder} must be absent or an empty folder, as nothing is replaced: name another with --to")


def check_export(folder: Path) -> float:
    """The largest difference between what the folder answers in a fresh process and its probes.

    None of our packages can be imported there, whether they are installed or not. Raises `ExportDiffersError` where the
    process fails.
    """
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({OURS})); runpy.run_path('check.py', run_name='__main__')"
    )
    # Without a cache of compiled modules, which would stay in the folder.
    line = [sys.executable, "-I", "-B", "-c", code]
    try:
        ended = subprocess.run(  # noqa: S603 - this interpreter, a folder that was just written
            line, cwd=folder, capture_output=True, text=True, timeout=_CHECK_SECONDS
        )
        return float(json.loads(ended.stdout)["largest_difference"])
    except subprocess.TimeoutExpired as error:
        raise ExportDiffersError(f"the export was not loaded within {_CHECK_SECONDS} s") from error
    except (ValueError, KeyError) as error:
        told = ended.stderr.strip().rpartition("\n")[2]
        raise ExportDiffersError(f"the export could not be loaded without Headwater: {told}") from error


def write_export(
    folder: Path, manifest: Manifest, sha256: str, arrays: Mapping[str, Any], *, onnx: bool, say: Callable[[str], None]
) -> tuple[int, int]:
    """Write all files of an export into a folder that is there; returns the numbers of items and of probes.

    Given are the manifest's sha256 and all arrays of the version. Raises `SnapshotError` for a model with settings that
    are not known here, `ValueError` where the arrays do not fit them.
    """
    settings = _settings(manifest)
    network = Network(settings)
    load_dense(network, arrays)
    vocabulary = vocabulary_table(settings, arrays)
    pq.write_table(vocabulary, folder / "vocabulary.parquet")
    save_file(dict(arrays), folder / "model.safetensors")
    # Which is written for its owner alone otherwise.
    shutil.copymode(folder / "vocabulary.parquet", folder / "model.safetensors")
    say(f"{vocabulary.num_rows:,} items; exporting the programs")
    programs = export_programs(network)
    for name, program in programs.items():
        torch.export.save(program, folder / f"{name}.pt2")
    if onnx:
        say("and as ONNX")
        write_onnx(programs, folder)
    ids: list[Any] = vocabulary["id"].to_pylist()
    probes = make_probes(Recommender.from_state(settings, arrays), ids, manifest.event_time_ms)
    (folder / "probes.json").write_text(json.dumps(probes))
    shutil.copyfile(export_reader.__file__, folder / "reader.py")
    shutil.copyfile(export_check.__file__, folder / "check.py")
    (folder / "README.md").write_text(_readme(manifest, settings, vocabulary.num_rows))
    config = export_config(manifest, sha256, settings, programs) | {"files": file_digests(folder)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return vocabulary.num_rows, len(probes)


def _settings(manifest: Manifest) -> ModelSettings:
    try:
        return ModelSettings(**{**manifest.config, "actions": tuple(manifest.config["actions"])})
    except (KeyError, TypeError) as error:
        named = f"{manifest.run_id}/v{manifest.version}"
        raise SnapshotError(f"{named} is of a model that this version of Headwater does not know: {error}") from error


def _readme(manifest: Manifest, settings: ModelSettings, num_items: int) -> str:
    return _README.format(
        version=f"{manifest.run_id}/v{manifest.version}",
        num_items=num_items,
        actions=", ".join(settings.actions),
        action=settings.actions[0],
        torch=torch.__version__.partition("+")[0],
    )


def vocabulary_table(settings: ModelSettings, arrays: Mapping[str, Any]) -> pa.Table:
    """A row for each item that has one: `id`, `key` (XXH3 of the id), `row`, `shown`, `count` (decayed, of actions)."""
    item_ids = unpack_ids(arrays["items.id_bytes"], arrays["items.id_ends"])
    rows = np.flatnonzero(arrays["items.live"])
    contents = Contents(len(arrays["contents.key"]), settings.content_rows)
    contents.load(arrays)
    ids = [item_ids[row] for row in rows.tolist()]
    keys = item_keys(ids)
    columns = {
        "id": pa.array(ids, pa.string()),
        "key": keys,
        "row": rows,
        "shown": ~np.isin(keys, contents.hidden()),
        "count": arrays["items.count"][rows],
    }
    return pa.table(columns)
