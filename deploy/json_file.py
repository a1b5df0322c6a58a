"""Figures written to the file that `--json` names."""

import json
from pathlib import Path
from typing import Any

from storage.errors import SetupError


def write_json(path: Path | None, figures: Any) -> None:
    """Write figures as JSON, or do nothing for None; raises `SetupError` where the file cannot be written."""
    if path is None:
        return
    try:
        path.write_text(json.dumps(figures, indent=2) + "\n")
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}; name another file with --json") from error
