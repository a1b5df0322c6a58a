"""What the time of an answer goes to, as histograms."""

from collections.abc import Iterator

from prometheus_client import Histogram, Metric
from prometheus_client.registry import Collector

BUCKETS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper edges; the last bucket is open."""


class AnswerTimes(Collector):
    """Histograms that belong to no registry until they are collected."""

    def __init__(self) -> None:
        self.answer = Histogram(
            "headwater_answer_seconds",
            "Time to make a model's answer for one user, by the alias that answered.",
            ["alias"],
            buckets=BUCKETS_SECONDS,
            registry=None,
        )
        self.sequence_read = Histogram(
            "headwater_sequence_read_seconds",
            "Time to read a user's sequence from its worker.",
            buckets=BUCKETS_SECONDS,
            registry=None,
        )

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        for histogram in (self.answer, self.sequence_read):
            yield from histogram.collect()
