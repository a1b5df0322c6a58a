"""A user's sequence as it is read: columns, oldest event first."""

import msgspec
import numpy.typing as npt
from numpy import bool_, float64, int64

from storage.changes import Feature


class FoldedSequence(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """Events in order of time: exposures with the actions folded onto them, and organic actions; one row an event."""

    item_ids: list[str]
    ts_ms: npt.NDArray[int64]
    """Event time of the exposure, or of the organic action."""
    actions: npt.NDArray[int64]
    """Bit masks over the settings' actions; 0 is a bare exposure."""
    groups: npt.NDArray[int64]
    """Position of the impression, or of the organic action: events of one group happened together."""
    indexes: npt.NDArray[int64]
    """Place in the impression."""
    acted: npt.NDArray[int64]
    """Position of the first action to arrive; -1 without one."""
    last: npt.NDArray[int64]
    """Position of the newest row of the event."""
    shown: npt.NDArray[bool_]
    """Whether it is an exposure."""
    sampled: npt.NDArray[bool_]
    """Whether it would be here without its actions, too: not where the exposure rate leaves it out."""
    value_places: npt.NDArray[int64]
    """Which event each value belongs to, ascending."""
    value_actions: npt.NDArray[int64]
    """Which action type each value came with; of one event ordered by the actions' time."""
    values: npt.NDArray[float64]
    new_kafka_ms: npt.NDArray[int64]
    """Kafka timestamps of the rows after `since`, in the order of the log; empty where no `since` was given."""

    def __len__(self) -> int:
        return len(self.item_ids)


class Update(msgspec.Struct, frozen=True, array_like=True):
    """One feature of a user, as it was told."""

    position: int
    """Position of the record."""
    ts_ms: int
    name: str
    value: Feature
