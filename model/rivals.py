"""What retrieval targets were ranked among, and are learned against.

Shapes: Q targets, I columns of the item table, C those that are learned against, G kinds of counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Rivals:
    """Of each target."""

    candidates_QI: npt.NDArray[np.bool_]
    """Which items were candidates."""
    counted_QCG: npt.NDArray[np.float32]
    """Logs of what was counted of the columns (see `Pass.columns`)."""


def join_rivals(parts: Sequence[Rivals]) -> Rivals:
    """Those of one batch, in turn; nothing at all where there are no targets."""
    if not parts:
        return Rivals(np.zeros((0, 0), np.bool_), np.zeros((0, 0, 0), np.float32))
    return Rivals(
        np.concatenate([part.candidates_QI for part in parts]), np.concatenate([part.counted_QCG for part in parts])
    )
