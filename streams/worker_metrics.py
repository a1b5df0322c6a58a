"""What a worker counts: records by result, dead letters by cause, samples, chunks, and how long things take."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from storage.user_run import Applied

LATENCY_BUCKETS_SECONDS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.125, 0.15),
    *(0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0),
)
"""Upper bounds of the histogram's buckets."""
CHUNK_BUCKETS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
"""Upper bounds, in records."""
NUM_RECENT = 8_192
"""Latencies kept one by one for exact quantiles."""


class LatencyHistogram(Collector):
    """A histogram that takes a whole chunk of latencies at once; Prometheus' own takes one by one."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name = name
        self._documentation = documentation
        self._counts = np.zeros(len(LATENCY_BUCKETS_SECONDS) + 1, dtype=np.int64)
        self._sum = 0.0
        self._recent = np.zeros(0)

    def observe(self, seconds: npt.NDArray[np.float64]) -> None:
        """Add latencies."""
        buckets = np.searchsorted(LATENCY_BUCKETS_SECONDS, seconds, side="left")
        self._counts += np.bincount(buckets, minlength=len(self._counts))
        self._sum += float(seconds.sum())
        self._recent = np.concatenate((self._recent, seconds))[-NUM_RECENT:]

    def quantiles(self) -> dict[str, float | None]:
        """p50 and p95 in seconds over the recent latencies; None without any."""
        if not len(self._recent):
            return {"p50": None, "p95": None}
        p50, p95 = np.quantile(self._recent, (0.5, 0.95))
        return {"p50": float(p50), "p95": float(p95)}

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The histogram as Prometheus wants it."""
        totals = np.cumsum(self._counts)
        bounds = [*(str(bound) for bound in LATENCY_BUCKETS_SECONDS), "+Inf"]
        buckets = [(bound, float(total)) for bound, total in zip(bounds, totals, strict=True)]
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


class WorkerMetrics:
    """The counters of one worker, in a registry of their own, since the worker started."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.records = self._counter("headwater_records", "Records of the topic events", "result")
        self.refused = self._counter("headwater_refused", "Records that were refused", "cause")
        self.dead_letters = self._counter("headwater_dead_letters", "Dead letters that were sent", "cause")
        self.samples = self._counter("headwater_samples", "Samples that were sent")
        self.forgotten = self._counter("headwater_users_forgotten", "Records that had a user forgotten")
        self.unsent = self._counter(
            "headwater_samples_forgotten", "Due samples that were not sent, as their user was forgotten"
        )
        self.holes = self._counter("headwater_holes", "Chunks that did not join the state and were read again")
        self.held_back = self._counter(
            "headwater_held_back_seconds", "Time for which no records were applied because an outbox was full"
        )
        self.chunk_records = Histogram(
            "headwater_chunk_records", "New records of a chunk", buckets=CHUNK_BUCKETS, registry=self.registry
        )
        self.apply_seconds = Histogram(
            "headwater_apply_seconds",
            "From a chunk's records to their place in the store",
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.event_to_sequence = LatencyHistogram(
            "headwater_event_to_sequence_seconds", "From a record's Kafka time to its place in the sequence"
        )
        self.registry.register(self.event_to_sequence)

    def count(self, num_records: int, applied: Applied, causes: Iterable[str], seconds: float) -> None:
        """Count a chunk: its new records, what came of them, why some were refused, how long it took."""
        others = {"refused": applied.refused, "duplicate": applied.duplicates, "too_late": applied.too_late}
        self.records.labels("applied").inc(num_records - sum(others.values()))
        for result, number in others.items():
            self.records.labels(result).inc(number)
        self.forgotten.inc(applied.forgotten)
        self.unsent.inc(applied.unsent)
        for cause in causes:
            self.refused.labels(cause).inc()
        self.chunk_records.observe(num_records)
        self.apply_seconds.observe(seconds)

    def counts(self) -> dict[str, float]:
        """All counters by name and label."""
        counters: Iterable[Counter] = (
            self.records,
            self.refused,
            self.dead_letters,
            self.samples,
            self.forgotten,
            self.unsent,
            self.holes,
            self.held_back,
        )
        return {
            sample.name + "".join(f".{label}" for label in sample.labels.values()): sample.value
            for counter in counters
            for family in counter.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)
