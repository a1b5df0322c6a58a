"""When records went through the learner: what a manifest says of those that its version learned first."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

Times: TypeAlias = tuple[int, int, int]
"""When a sample was in its log, was taken by the learner, and was learned: ms since 1970."""

RESOLUTION_MS = 10
"""Times are rounded up to this, so that records share them and a manifest stays small."""


class FirstLearned:
    """The records that no version holds yet: how many of each Kafka time, by the times of their samples.

    >>> clock = iter([1_005, 1_990])
    >>> first = FirstLearned(lambda: next(clock))
    >>> first.take([400, 400, 700], written_ms=900)
    >>> first.learn()
    >>> first.num_records, first.hand_over()
    (3, {(900, 1010, 1990): Counter({400: 2, 700: 1})})
    """

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self.clock_ms = clock_ms
        self.num_records = 0
        """Records learned since `hand_over`."""
        self._taken: list[tuple[int, int, Sequence[int]]] = []
        self._learned: dict[Times, Counter[int]] = {}

    def take(self, kafka_ms: Sequence[int], written_ms: int) -> None:
        """A sample of records with these Kafka times is taken now; it was in its log at `written_ms`."""
        self._taken.append((_rounded(written_ms), _rounded(self.clock_ms()), kafka_ms))

    def learn(self) -> None:
        """What was taken is learned now."""
        learned_ms = _rounded(self.clock_ms())
        for written_ms, taken_ms, kafka_ms in self._taken:
            self._learned.setdefault((written_ms, taken_ms, learned_ms), Counter()).update(kafka_ms)
            self.num_records += len(kafka_ms)
        self._taken = []

    def hand_over(self) -> Mapping[Times, Mapping[int, int]]:
        """What was learned, which a version now holds."""
        learned, self._learned, self.num_records = self._learned, {}, 0
        return learned


def _rounded(ms: int) -> int:
    return -(-ms // RESOLUTION_MS) * RESOLUTION_MS
