"""Which new ids get a row of their own.

Shapes: N events, each with an id that has no row.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.admission_names import AdmissionName
from model.count_min import CountMin
from model.layout import Integers
from model.slot_kernels import draw_many

Flags = npt.NDArray[np.bool_]
_LEFT_OUT = 0.05
"""Share of ids that chance has not admitted by the stated number of sightings."""


class Admission(Protocol):
    """Decides event by event."""

    def admit(self, keys_N: Integers, numbers_N: Integers) -> Flags:
        """Whether the id of each event is admitted with it; `numbers_N` are the events' places in the stream."""

    def state(self) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""


class Always:
    """Every id, with its first event."""

    def admit(self, keys_N: Integers, numbers_N: Integers) -> Flags:
        """Whether the id of each event is admitted with it."""
        return np.ones(len(keys_N), np.bool_)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing: it remembers nothing."""
        return {}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing is taken over."""


class Seen:
    """An id with its `sightings`-th event lately; of many ids at once some come earlier, as a sketch counts them."""

    def __init__(self, sightings: int, width: int) -> None:
        self.sightings = sightings
        self._sketch = CountMin(width)

    def admit(self, keys_N: Integers, numbers_N: Integers) -> Flags:
        """Whether the id of each event is admitted with it."""
        is_enough_N: Flags = self._sketch.see(keys_N) >= self.sightings
        return is_enough_N

    def state(self) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        return self._sketch.state()

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self._sketch.load(arrays)


class Probabilistic(Always):
    """By chance at each event, so that 95 % of ids are in with their `sightings`-th (Liu et al. 2022, 2.2.1)."""

    def __init__(self, sightings: int, seed: int) -> None:
        self._chance = 1 - _LEFT_OUT ** (1 / sightings)
        self._seed = seed

    def admit(self, keys_N: Integers, numbers_N: Integers) -> Flags:
        """Whether the id of each event is admitted with it; the same after a restart."""
        drawn_N = np.empty(len(keys_N))
        draw_many(keys_N, numbers_N, self._seed, drawn_N)
        is_drawn_N: Flags = drawn_N < self._chance
        return is_drawn_N


class Where:
    """As another policy, but only events that a rule of keys and places lets through."""

    def __init__(self, policy: Admission, rule: Callable[[Integers, Integers], Flags]) -> None:
        self._policy = policy
        self._rule = rule

    def admit(self, keys_N: Integers, numbers_N: Integers) -> Flags:
        """Whether the id of each event is admitted with it."""
        is_admitted_N: Flags = self._policy.admit(keys_N, numbers_N) & self._rule(keys_N, numbers_N)
        return is_admitted_N

    def state(self) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        return self._policy.state()

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self._policy.load(arrays)


def make_admission(name: AdmissionName, *, sightings: int, until: int, max_items: int, seed: int) -> Admission:
    """The policy of a name; `until` is the event that ends admission, 0 for none."""
    policy: Admission = Always()
    if name == "seen":
        policy = Seen(sightings, width=max_items)
    if name == "probabilistic":
        policy = Probabilistic(sightings, seed)
    return Where(policy, lambda _, numbers_N: numbers_N < until) if until else policy
