"""A user's sequence as a worker tells it."""

import math

import msgspec
import numpy as np

from model.sequence import UserSequence
from streams.batch import user_features
from streams.samples import Segment

_EVENT_COLUMNS = ("item_ids", "ts_ms", "actions", "values", "groups")


class SequenceColumns(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's answer: the user's last events, oldest first; the columns have one length."""

    user_id: str
    partition: int
    epoch: int
    """How often the log was made anew."""
    applied: int
    """Offset of the newest record of the partition that the sequence can contain."""
    item_ids: list[str]
    ts_ms: list[int]
    actions: list[int]
    """Bit masks over `action_names`."""
    values: list[float | None]
    groups: list[int]
    action_names: list[str]
    features: dict[str, str | int | float | bool] = {}
    feature_segments: list[Segment] = []
    """How the features changed, beside the events."""
    kept: int = 0
    """Events before the first that is told: those of what the reader holds already."""
    digest: str = ""
    """Stands for all events and features; empty where only a part was asked for."""

    def behind(self, held: "SequenceColumns") -> "SequenceColumns":
        """The whole, where a reader holds what these are news of; raises `ValueError` where it holds too little."""
        if self.kept > len(held.item_ids):
            raise ValueError(f"kept must be at most the {len(held.item_ids)} events that were told, got {self.kept}")
        events = {name: getattr(held, name)[: self.kept] + getattr(self, name) for name in _EVENT_COLUMNS}
        return msgspec.structs.replace(self, kept=0, **events)

    def to_sequence(self) -> UserSequence:
        """The model's input, with nothing in it to learn."""
        num_events = len(self.item_ids)
        return UserSequence(
            user_id=self.user_id,
            item_ids=self.item_ids,
            ts_ms=np.array(self.ts_ms, np.int64),
            actions=np.array(self.actions, np.int64),
            values=np.array([math.nan if value is None else value for value in self.values], np.float32),
            groups=np.array(self.groups, np.int64),
            new=np.zeros(num_events, np.int64),
            order=np.zeros(num_events, np.int64),
            features=user_features(self.feature_segments),
        )
