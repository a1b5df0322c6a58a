"""The model's input: one user's sequence, oldest event first, and which of its events are new."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.user_features import UserFeature

NEW_EXPOSURE = 1
"""Bit in `UserSequence.new`: learn the ranking labels of this exposure."""
NEW_ACTION = 2
"""Bit in `UserSequence.new`: the first action is new; the event is a retrieval target."""
NEW_FURTHER_ACTION = 4
"""Bit in `UserSequence.new`: a further action is new; only the ranking labels are learned again."""
NEW_LATE_ACTION = 8
"""Bit in `UserSequence.new`, beside NEW_ACTION and never NEW_EXPOSURE: it was learned before, as an exposure without
an action."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserSequence:
    """Columns of one user's last events; every column has the length of `item_ids`."""

    user_id: str
    item_ids: list[str]
    ts_ms: npt.NDArray[np.int64]
    actions: npt.NDArray[np.int64]
    """Bit mask over the configured action types; 0 is a bare exposure."""
    values: npt.NDArray[np.float32]
    """Value that came with the newest action; NaN where there was none."""
    groups: npt.NDArray[np.int64]
    """Events of one impression share a number; a prediction sees only events of earlier groups."""
    new: npt.NDArray[np.int64]
    """Bits NEW_*; 0 is context."""
    order: npt.NDArray[np.int64]
    """Place of each new event in the stream's order; ignored where `new` is 0."""
    features: Sequence[UserFeature] = ()
    """How what is known of the user changed, oldest first."""
    exposure_rate: float = 1.0
    """Share of the exposures without an action that are in the sequence; the others were left out by chance."""


def no_events(user_id: str) -> UserSequence:
    """The sequence of a user of whom nothing is known.

    >>> no_events("u").item_ids
    []
    """
    none = np.zeros(0, np.int64)
    return UserSequence(
        user_id=user_id,
        item_ids=[],
        ts_ms=none,
        actions=none,
        values=np.zeros(0, np.float32),
        groups=none,
        new=none,
        order=none,
    )
