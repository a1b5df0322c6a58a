"""A micro-batch: samples as they arrive, one sequence a user, ready for the learner's step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from model.sequence import NEW_EXPOSURE, NEW_LATE_ACTION, UserSequence
from model.user_features import UserFeature
from streams.samples import Sample, Segment


@dataclass(slots=True)
class _Row:
    """The newest sample of a user in the batch, and the new bits and stream order of all its samples' new events."""

    sample: Sample
    new: dict[tuple[int, str], int] = field(default_factory=dict)
    order: dict[tuple[int, str], int] = field(default_factory=dict)

    def add(self, sample: Sample, first_order: int) -> int:
        """Take a later sample in; returns how many events are new in it."""
        self.sample = sample
        num_new = 0
        for group, item_id, bits in zip(sample.groups, sample.item_ids, sample.new, strict=True):
            if bits:
                self.new[group, item_id] = _joined(self.new.get((group, item_id), 0), bits)
                self.order.setdefault((group, item_id), first_order + num_new)
                num_new += 1
        return num_new

    def sequence(self) -> UserSequence:
        sample = self.sample
        keys = list(zip(sample.groups, sample.item_ids, strict=True))
        return UserSequence(
            user_id=sample.user_id,
            item_ids=sample.item_ids,
            ts_ms=np.array(sample.ts_ms, dtype=np.int64),
            actions=np.array(sample.actions, dtype=np.int64),
            values=newest_values(sample),
            groups=np.array(sample.groups, dtype=np.int64),
            new=np.array([self.new.get(key, 0) for key in keys], dtype=np.int64),
            order=np.array([self.order.get(key, 0) for key in keys], dtype=np.int64),
            features=user_features(sample.features),
            exposure_rate=sample.exposure_rate,
        )


def _joined(earlier: int, later: int) -> int:
    """What is new of an event in two samples, in one."""
    bits = earlier | later
    # An exposure of this batch was not learned yet: its action comes in time.
    return bits & ~NEW_LATE_ACTION if bits & NEW_EXPOSURE else bits


def user_features(segments: Sequence[Segment]) -> list[UserFeature]:
    """How a user's features changed, as the model takes it."""
    return [UserFeature(each.ts_ms, each.place, each.name, each.value) for each in segments]


def newest_values(sample: Sample) -> npt.NDArray[np.float32]:
    """The newest value of each event; NaN where it has none."""
    values = np.full(len(sample.item_ids), np.nan, dtype=np.float32)
    for place, value in zip(sample.value_places, sample.values, strict=True):
        values[place] = value
    return values


class MicroBatch:
    """Samples in the order of their arrival; a user's later sample takes the place of the earlier one.

    A later sample holds the events of the earlier ones as well, so the user is one row whose new events are those of
    all its samples. Where it does not (the cap dropped one), `fits` says no and the batch is to be learned first.
    """

    def __init__(self, first_order: int) -> None:
        self.first_order = first_order
        self.samples: list[Sample] = []
        self.num_events = 0
        self._rows: dict[str, _Row] = {}

    def fits(self, sample: Sample) -> bool:
        """Whether the sample can join without losing a new event of its user."""
        row = self._rows.get(sample.user_id)
        if row is None:
            return True
        # Groups are positions, and those of two logs may be equal.
        is_same_log = row.sample.topic_id == sample.topic_id
        return is_same_log and row.new.keys() <= set(zip(sample.groups, sample.item_ids, strict=True))

    def holds(self, user_id: str) -> bool:
        """Whether a sample of a user is among these."""
        return user_id in self._rows

    def add(self, sample: Sample) -> None:
        """Take a sample in; the caller has asked `fits`."""
        row = self._rows.setdefault(sample.user_id, _Row(sample))
        self.num_events += row.add(sample, self.first_order + self.num_events)
        self.samples.append(sample)

    def sequences(self) -> Sequence[UserSequence]:
        """One row a user, in the order of first arrival."""
        return [row.sequence() for row in self._rows.values()]
