"""What one step of the online learner did.

Shapes: E new events, A action types.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.prequential import Targets


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What one step did."""

    num_events: int
    """New events scored."""
    learned: bool
    """False where the learner is frozen, nothing was new, or the step was skipped."""
    skipped: bool
    """True where a loss or gradient was not finite: the weights are as before."""
    retrieval_loss: float
    """Mean over new targets and replayed ones, before the step; NaN where none was computed."""
    ranking_loss: float
    """Mean over new events, before the step; NaN where none was computed."""
    targets: Targets
    """Ranks of the new first actions, in the order of the stream."""
    action_logits_EA: npt.NDArray[np.float32]
    """Log odds of each action for each new event, before the step, in the order of the stream."""
    values_E: npt.NDArray[np.float64]
    """Value predicted for each new event, before the step; NaN where the model predicts none."""
