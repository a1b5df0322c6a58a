"""Values held by key within a limit of memory: those that were asked for longest ago give way."""

from collections.abc import Iterator
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class RecentlyUsed(Generic[_Value]):
    """At most `limit_bytes` of values, as they were said to take when they were put; not for several threads at once.

    >>> held: RecentlyUsed[str] = RecentlyUsed(10)
    >>> held.put("a", "first", 6), held.put("b", "second", 6)
    (None, None)
    >>> held.take("a"), held.take("b"), held.num_evicted, held.num_bytes
    (None, 'second', 1, 0)
    """

    def __init__(self, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise ValueError(f"limit_bytes must be >= 0, got {limit_bytes}")
        self.limit_bytes = limit_bytes
        self.num_bytes = 0
        """What all values take."""
        self.num_evicted = 0
        """Values that had to make room for others."""
        self._held: dict[str, tuple[_Value, int]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def values(self) -> Iterator[_Value]:
        """All of them, the one asked for longest ago first."""
        return (value for value, _ in self._held.values())

    def take(self, key: str) -> _Value | None:
        """Take a value out; None where there is none."""
        value, num_bytes = self._held.pop(key, (None, 0))
        self.num_bytes -= num_bytes
        return value

    def put(self, key: str, value: _Value, num_bytes: int) -> None:
        """Hold a value in place of a former one, as the one asked for last; one larger than the limit is not held."""
        self.take(key)
        if num_bytes > self.limit_bytes:
            return
        self._held[key] = value, num_bytes
        self.num_bytes += num_bytes
        while self.num_bytes > self.limit_bytes:
            self.take(next(iter(self._held)))
            self.num_evicted += 1
