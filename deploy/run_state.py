"""State of a long run in one file, so that a run that is killed goes on where it was.

The file is safetensors: the arrays, and beside them, as JSON, what the run is and the rows that it has so far.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from storage.errors import SetupError


@dataclass(frozen=True, slots=True)
class Saved:
    """What a run goes on from."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One for each part of the run that is done."""


@dataclass(frozen=True, slots=True)
class RunState:
    """Where the state of a run is kept, and of which run."""

    path: Path | None
    """None: nowhere."""
    run: Mapping[str, Any]
    """Everything that the run's figures follow from; a state of any other run is refused."""

    def load(self) -> Saved:
        """The state, empty where there is none yet; raises `SetupError` for that of another run and for other files."""
        if self.path is None or not self.path.exists():
            return Saved()
        try:
            with safe_open(self.path, framework="numpy") as file:
                header = file.metadata() or {}
                run, rows = json.loads(header["run"]), json.loads(header["rows"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise SetupError(f"cannot resume from {self.path}: {error}; name another file with --resume") from error
        expected = json.loads(json.dumps(self.run))
        differing = sorted(name for name in run.keys() | expected.keys() if run.get(name) != expected.get(name))
        if differing:
            said = ", ".join(f"{name} {run.get(name)!r} there and {expected.get(name)!r} here" for name in differing)
            raise SetupError(f"{self.path} is of another run: {said}; name another file with --resume")
        return Saved(arrays, rows)

    def save(self, arrays: dict[str, np.ndarray], rows: list[dict[str, Any]]) -> None:
        """Replace the state, in one step even where the process dies meanwhile; raises `SetupError`."""
        if self.path is None:
            return
        beside = self.path.with_name(self.path.name + ".new")
        try:
            with beside.open("wb") as file:
                file.write(save(arrays, {"run": json.dumps(self.run), "rows": json.dumps(rows)}))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            raise SetupError(f"cannot write {self.path}: {error.strerror}; name another file with --resume") from error
