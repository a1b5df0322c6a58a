"""What the simulator makes, and how the name of a data set says it: `simulator:seed=3,drifts=4`."""

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

SIMULATOR = "simulator"
DAY_MS = 86_400_000
MAX_BIRTHS = 1_000_000
"""Most items that may be born in a stream."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatorSettings:
    """Size of a simulated stream, and how restless it is; the stream is a function of these alone."""

    seed: int = 0
    """Seed of every random draw."""
    num_requests: int = 12_500
    """Requests of all users together; each shows a slate."""
    slate_size: int = 8
    """Items that a request shows; fewer where fewer are left for its user."""
    num_users: int = 600
    """Users, all there from the beginning; some ask more often than others."""
    num_items: int = 400
    """Items that are there at a time, in the mean."""
    num_categories: int = 12
    """Categories; each item is of one, and each user is fond of two."""
    days: float = 28.0
    """How long the stream lasts."""
    life_days: float = 28.0
    """Mean life of an item; as many are born as die."""
    num_drifts: int = 3
    """Drifts, evenly spread: of three there is one after each quarter of the stream."""
    drift_share: float = 0.6
    """Share of the users whose taste, and of the items whose appeal, a drift draws anew."""
    position_bias: float = 0.5
    """The item at place k of a slate, from 1, is looked at with probability k^-position_bias."""

    def __post_init__(self) -> None:
        for name, ok, allowed in self._rules():
            if not ok:
                raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)}")

    def _rules(self) -> Iterator[tuple[str, bool, str]]:
        """Names, whether they are as allowed, and what is; a rule may rely on those before it."""
        yield "seed", self.seed >= 0, ">= 0"
        yield "num_requests", self.num_requests >= 1, ">= 1"
        yield "slate_size", self.slate_size >= 1, ">= 1"
        yield "num_users", self.num_users >= 1, ">= 1"
        yield "num_items", self.num_items >= self.slate_size, f">= slate_size ({self.slate_size})"
        yield "num_categories", self.num_categories >= 2, ">= 2"
        long_enough = 0 < self.days < math.inf and self.gap_ms >= 1
        yield "days", long_enough, f"at least a millisecond for each of {self.num_requests} requests"
        bearable = 0 < self.life_days < math.inf and self.num_items * self.days / self.life_days <= MAX_BIRTHS
        yield "life_days", bearable, f"> 0, so long that at most {MAX_BIRTHS:,} items are born"
        yield "num_drifts", 0 <= self.num_drifts < self.num_requests, f"0 to {self.num_requests - 1}"
        yield "drift_share", 0 <= self.drift_share <= 1, "in [0, 1]"
        yield "position_bias", 0 <= self.position_bias < math.inf, ">= 0"

    @property
    def gap_ms(self) -> int:
        """Time from one request to the next, in the mean."""
        return int(self.days * DAY_MS / self.num_requests)

    @property
    def duration_ms(self) -> int:
        """How long the stream lasts, to the last request's share of it."""
        return self.gap_ms * self.num_requests

    @property
    def num_births(self) -> int:
        """Items that are born while the stream runs."""
        return round(self.num_items * self.days / self.life_days)


def read_settings(text: str) -> SimulatorSettings:
    """The settings of `name=value,...`; names are those of the fields, without `num_`.

    Raises `ValueError` for other names and for values that cannot be.

    >>> settings = read_settings("seed=3,drifts=4")
    >>> settings.seed, settings.num_drifts
    (3, 4)
    """
    known = {field.name.removeprefix("num_"): field for field in fields(SimulatorSettings)}
    given: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        name, _, value = part.partition("=")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)
            raise ValueError(f"unknown setting of the {SIMULATOR}: {name!r}; did you mean {near[0]}?")
        kind: Callable[[str], float] = float if known[name].type is float else int
        try:
            given[known[name].name] = kind(value)
        except ValueError as error:
            allowed = f"{'a number' if kind is float else 'an integer'}, as in {SIMULATOR}:{name}=3"
            raise ValueError(f"{name} must be {allowed}, got {value!r}") from error
    return SimulatorSettings(**given)
