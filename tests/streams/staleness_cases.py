"""Targets and sequences for the tests of staleness."""

import numpy as np

from model.prequential import Targets
from model.sequence import NEW_ACTION, NEW_EXPOSURE, UserSequence


def targets_of(ranks: list[float], **columns: list[bool]) -> Targets:
    """Targets numbered from 0; `repeat` may be told."""
    count = len(ranks)
    return Targets(
        numbers=np.arange(count),
        ranks=np.array(ranks),
        popularity_ranks=np.ones(count),
        positive=np.ones(count, np.bool_),
        repeat=np.array(columns.get("repeat", [False] * count)),
    )


def sequence_of(item_ids: list[str], *, num_new: int, user_id: str = "ada") -> UserSequence:
    count = len(item_ids)
    new = np.zeros(count, np.int64)
    new[count - num_new :] = NEW_EXPOSURE | NEW_ACTION
    return UserSequence(
        user_id=user_id,
        item_ids=item_ids,
        ts_ms=1_000 * np.arange(count, dtype=np.int64),
        actions=np.ones(count, np.int64),
        values=np.full(count, np.nan, np.float32),
        groups=np.arange(count, dtype=np.int64),
        new=new,
        order=np.arange(count, dtype=np.int64),
    )
