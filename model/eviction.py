"""Which ids lose their rows.

Shapes: I rows that are somebody's, in rising order.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.layout import Integers


@dataclass(frozen=True, slots=True)
class Sightings:
    """When and how often the ids of rows were seen, as of now."""

    rows_I: Integers
    counts_I: npt.NDArray[np.float32]
    """Fading counts."""
    idle_seconds_I: Integers
    """Event time since the newest sighting."""
    age_I: Integers
    """Events of the stream since the row was given."""


class Eviction(Protocol):
    """A rule."""

    def victims(self, seen: Sightings) -> Integers:
        """Rows to be taken back."""


@dataclass(frozen=True, slots=True)
class Ttl:
    """Ids that did not come for so long."""

    seconds: float

    def victims(self, seen: Sightings) -> Integers:
        """Rows to be taken back."""
        return seen.rows_I[seen.idle_seconds_I > self.seconds]


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """Where more than the share `high` of all rows are somebody's, those with the smallest counts, down to `low`."""

    max_items: int
    high: float = 0.9
    low: float = 0.8
    grace: float = 0.01
    """Rows are spared for so many events, as a share of `max_items`: a newborn had no time to be counted."""

    def victims(self, seen: Sightings) -> Integers:
        """Rows to be taken back; of equal counts, the lower ones."""
        if len(seen.rows_I) < self.high * self.max_items:
            return np.zeros(0, np.int64)
        old = np.flatnonzero(seen.age_I > self.grace * self.max_items)
        num_victims = min(len(old), len(seen.rows_I) - int(self.low * self.max_items))
        if num_victims <= 0:
            return np.zeros(0, np.int64)
        counts = seen.counts_I[old]
        most = np.partition(counts, num_victims - 1)[num_victims - 1]
        below, equal = old[counts < most], old[counts == most]
        rows: Integers = seen.rows_I[np.sort(np.concatenate([below, equal[: num_victims - len(below)]]))]
        return rows
