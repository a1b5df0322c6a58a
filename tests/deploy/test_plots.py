import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.plots import draw_curves
from storage.errors import SetupError

CURVES = {"hr@10": [(1.0, 0.1), (2.0, 0.2)]}
LABELS: Any = {"title": "made", "x": "epoch", "y": "rate"}


def test_curves_become_a_png_file(tmp_path: Path) -> None:
    """Whatever it is called, it is to be shown in a browser."""
    draw_curves(tmp_path / "curve", CURVES, **LABELS)
    assert (tmp_path / "curve").read_bytes().startswith(b"\x89PNG\r\n")


def test_drifts_are_drawn(tmp_path: Path) -> None:
    """A fall without its cause beside it looks like a fault."""
    draw_curves(tmp_path / "without", CURVES, **LABELS)
    draw_curves(tmp_path / "with", CURVES, drifts=[1.2, 1.7], **LABELS)
    assert (tmp_path / "without").read_bytes() != (tmp_path / "with").read_bytes()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A run of hours would end in a traceback."""
    with pytest.raises(SetupError, match="name another file with --plot"):
        draw_curves(tmp_path / "gone" / "curve.png", CURVES, **LABELS)


def test_without_matplotlib_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: servers do without."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SetupError, match="pip install"):
        draw_curves(tmp_path / "curve.png", CURVES, **LABELS)
