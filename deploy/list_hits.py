"""How good lists are, as far as a server can see: whether what users did next was on the last one."""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from deploy.sequence_columns import SequenceColumns

MAX_USERS = 10_000
"""Users whose last list is remembered, those who were given one last."""
LIST_LENGTH = 10
"""First items of a list on which an action is a hit."""


class _List(NamedTuple):
    alias: str
    item_ids: frozenset[str]
    acted: tuple[int, int]
    """Number and newest time of the events acted on before it."""


class ListHits(Collector):
    """Lists followed by an action of their user, and those of which an item was acted on, by alias.

    Seen when the user's sequence is read again: those who never come back count nowhere. Each server counts the lists
    that it has made, in one event loop.
    """

    def __init__(self) -> None:
        self.num_followed: Counter[str] = Counter()
        self.num_hit: Counter[str] = Counter()
        self._lists: OrderedDict[str, _List] = OrderedDict()

    def listed(self, columns: SequenceColumns, alias: str, item_ids: Sequence[str]) -> None:
        """A list was made from this sequence."""
        self._lists[columns.user_id] = _List(alias, frozenset(item_ids[:LIST_LENGTH]), _acted(columns))
        self._lists.move_to_end(columns.user_id)
        if len(self._lists) > MAX_USERS:
            self._lists.popitem(last=False)

    def read(self, columns: SequenceColumns) -> None:
        """A user's sequence as it is now: the last list is judged once the user has acted after it."""
        former = self._lists.get(columns.user_id)
        if former is None:
            return
        number, newest_ms = _acted(columns)
        if number > former.acted[0] or newest_ms > former.acted[1]:
            del self._lists[columns.user_id]
            self.num_followed[former.alias] += 1
            acted = {item_id for item_id, mask in zip(columns.item_ids, columns.actions, strict=True) if mask}
            # What is on a list was not acted on before it.
            self.num_hit[former.alias] += not acted.isdisjoint(former.item_ids)

    def hit_rate(self, alias: str) -> float | None:
        """Share of the lists with an action on their first items; None before the first that was followed by one."""
        num_followed = self.num_followed[alias]
        return self.num_hit[alias] / num_followed if num_followed else None

    def collect(self) -> Iterator[Metric]:
        """Two counters."""
        for name, help_text, counts in (
            ("lists_followed", "Lists after which their user acted on anything.", self.num_followed),
            ("lists_hit", "Of these, lists of whose first ten items one was acted on.", self.num_hit),
        ):
            family = CounterMetricFamily(f"headwater_{name}", help_text, labels=["alias"])
            for alias, count in counts.items():
                family.add_metric([alias], count)
            yield family


def _acted(columns: SequenceColumns) -> tuple[int, int]:
    times = [ts_ms for ts_ms, mask in zip(columns.ts_ms, columns.actions, strict=True) if mask]
    return len(times), max(times, default=-1)
