"""Curves as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from storage.errors import SetupError

Points = Sequence[tuple[float, float]]
_COLORS = 10
"""After so many curves, colors come again with another kind of line."""
_STYLES = ("-", "--", ":", "-.")


def draw_curves(
    path: Path, curves: Mapping[str, Points], *, title: str, x: str, y: str, drifts: Sequence[float] = ()
) -> None:
    """Draw named curves into one PNG, and a vertical line where each drift is.

    Raises `SetupError` where matplotlib is missing or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SetupError("--plot needs matplotlib: pip install 'headwater[plot]'") from error
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        axes.plot(
            [point[0] for point in points],
            [point[1] for point in points],
            marker=".",
            color=f"C{number % _COLORS}",
            linestyle=_STYLES[number // _COLORS % len(_STYLES)],
            label=name,
        )
    for number, drift in enumerate(drifts):
        # Only the first is in the legend.
        axes.axvline(drift, color="0.5", linestyle=":", label="drift" if number == 0 else None)
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    # Beside the curves, which are anywhere.
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}; name another file with --plot") from error
