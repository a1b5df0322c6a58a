"""`config.json` of an exported folder: what made it, what its reader goes by, and what is in its files."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from deploy.export_reader import FORMAT, FORMAT_VERSION
from model.settings import ModelSettings
from model.token_order import TOKEN_ORDERS
from model.windows import most_context
from storage.manifest import Manifest

OUTPUTS = {"retrieval": ["query_D", "scores_I"], "ranking": ["probabilities_CA", "scaled_values_C1"]}
"""What each program gives, in order."""


def export_config(
    manifest: Manifest, manifest_sha256: str, settings: ModelSettings, programs: Mapping[str, ExportedProgram]
) -> dict[str, Any]:
    """All but `files`, as JSON values."""
    most = most_context(settings.window, TOKEN_ORDERS[settings.layout])
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "source": {
            "run_id": manifest.run_id,
            "version": manifest.version,
            "manifest_sha256": manifest_sha256,
            "kind": manifest.kind,
            "created_ms": manifest.created_ms,
            "event_time_ms": manifest.event_time_ms,
            "step": manifest.step,
            "metrics": manifest.metrics,
        },
        "versions": {"torch": torch.__version__},
        "model": dataclasses.asdict(settings),
        "actions": settings.actions,
        "counts": settings.counts,
        "token_layout": settings.layout,
        "limits": {"tokens": settings.window, "entries": most, "features": most // 4},
        "programs": {
            name: {"file": f"{name}.pt2", "inputs": _inputs(program), "outputs": OUTPUTS[name]}
            for name, program in programs.items()
        },
    }


def file_digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of each file of a folder."""
    digests = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        digests[path.name] = {"bytes": path.stat().st_size, "sha256": digest}
    return digests


def _inputs(program: ExportedProgram) -> dict[str, Any]:
    """Type and shape of each input; a dimension of any size is the letter that its name ends with."""
    placeholders = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    told = {}
    for name, placed in zip(program.example_inputs[1], program.graph_signature.user_inputs, strict=True):
        value, letters = placeholders[placed], name.rpartition("_")[2]
        shape = [size if isinstance(size, int) else letters[place] for place, size in enumerate(value.shape)]
        told[name] = {"dtype": str(value.dtype).removeprefix("torch."), "shape": shape}
    return told
