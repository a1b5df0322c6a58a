"""The programs of an export as ONNX, for those who serve without torch."""

import logging
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.export import ExportedProgram

from deploy.export_config import OUTPUTS
from storage.errors import SetupError


def check_onnx() -> None:
    """Raise `SetupError` where what writes and runs ONNX is not installed."""
    missing = [name for name in ("onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise SetupError(f"--onnx needs {' and '.join(missing)}: pip install 'headwater[onnx]'")


def write_onnx(programs: Mapping[str, ExportedProgram], folder: Path) -> None:
    """Write `NAME.onnx` for each; inputs and outputs have the names that `config.json` tells."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of operators that nobody uses here
    for name, program in programs.items():
        inputs = list(program.example_inputs[1])
        with warnings.catch_warnings():
            # Of torch's own calls.
            warnings.simplefilter("ignore", FutureWarning)
            converted = torch.onnx.export(
                program, input_names=inputs, output_names=OUTPUTS[name], verbose=False, dynamo=True
            )
        assert converted is not None
        converted.save(folder / f"{name}.onnx")
