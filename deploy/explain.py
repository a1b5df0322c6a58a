"""Which events matter: what an item's score would be, had one of them not happened."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deploy.asked import Asked
from model.item_score import ItemScore
from model.sequence import UserSequence
from storage.entries import unpack_position


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """An item's score for a user, and what the user's events have to do with it."""

    score: ItemScore
    actions: dict[str, float]
    """Probability of each action."""
    changes: dict[int, float]
    """By place of an event in the sequence, the largest first: what the score has gained or lost by it."""


async def explain(asked: Asked, item_id: str, places: Sequence[int]) -> Explanation:
    """Score an item with the whole sequence, and once without each of the events at these places.

    Each is a pass of its own, so that other requests get their turn in between.
    """
    (score,) = await asked.score_parts(asked.sequence, [item_id])
    (actions,) = await asked.probabilities([item_id])
    changes = {}
    for place in places:
        (other,) = await asked.score_parts(without(asked.sequence, place), [item_id])
        changes[place] = score.total - other.total
    order = sorted(changes, key=lambda place: -abs(changes[place]))
    return Explanation(score=score, actions=actions, changes={place: changes[place] for place in order})


def without(sequence: UserSequence, place: int) -> UserSequence:
    """The sequence as if the event at this place had not happened; what was told of the user stays."""
    columns: dict[str, Any] = {name: np.delete(getattr(sequence, name), place) for name in _COLUMNS}
    features = [told._replace(place=told.place - (told.place > place)) for told in sequence.features]
    item_ids = [*sequence.item_ids[:place], *sequence.item_ids[place + 1 :]]
    return replace(sequence, item_ids=item_ids, features=features, **columns)


def learned_offset(asked: Asked) -> int | None:
    """Offset up to which the answering weights have learned the samples of the user's partition."""
    mark = asked.side.replica.manifest.sample_marks.get(str(asked.columns.partition))
    return None if mark is None else mark.trigger_offset


def is_learned(asked: Asked, place: int) -> bool:
    """Whether the answering weights have learned samples as new as the event; its own comes with the user's next."""
    mark = asked.side.replica.manifest.sample_marks.get(str(asked.columns.partition))
    return mark is not None and unpack_position(asked.columns.groups[place]) <= (mark.epoch, mark.trigger_offset)


_COLUMNS = ("ts_ms", "actions", "values", "groups", "new", "order")
