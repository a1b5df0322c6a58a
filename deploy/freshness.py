"""How long an event takes into the weights that answer, from its Kafka time to the first answer that knows it."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from deploy.delay_bins import MAX_MS, DelayBins
from deploy.freshness_parts import PARTS, LearnedRecords

MAX_PENDING = 1_000_000
"""Most (Kafka time, count) pairs that wait for a first answer; the oldest give way and are counted."""
BUCKETS_SECONDS = (
    *(0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
    *(12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 75.0, 90.0, 120.0),
)
"""Upper edges of the exported histogram of the whole; the last bucket is open."""
PART_BUCKETS_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0, 30.0, 60.0)
"""The same of each part."""


class _Pending(NamedTuple):
    serial: int
    records: LearnedRecords
    until_applied_ms: tuple[int, int, int]


class Freshness(Collector):
    """Delays between records' Kafka times and the first answer by weights that learned them, and their parts.

    `learned` says what a replica knows that the ones before it did not; `answered` says that a replica has answered.
    A replica's `serial` grows with each one loaded. Delays are binned by 10 ms, so the quantiles are exact to that.
    Safe to use from any thread.
    """

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self.clock_ms = clock_ms
        self.num_dropped = 0
        """Records never measured, because too many waited for an answer, or a rollback came first."""
        self.whole = DelayBins()
        self.parts = {part: DelayBins() for part in PARTS}
        self._pending: deque[_Pending] = deque()
        self._num_pending = 0
        self._lock = threading.Lock()

    def learned(
        self, serial: int, records: Sequence[LearnedRecords], *, moved_ms: int = 0, fetched_ms: int = 0
    ) -> None:
        """The replica of this number is the first to know these records, and is to answer from now on.

        `moved_ms` is when the pointer came to name its version, `fetched_ms` when its files were here; 0: unknown.
        """
        until_applied_ms = (moved_ms, fetched_ms, self.clock_ms())
        with self._lock:
            for each in records:
                self._pending.append(_Pending(serial, each, until_applied_ms))
                self._num_pending += len(each.counts)
            while self._num_pending > MAX_PENDING and len(self._pending) > 1:
                oldest = self._pending.popleft().records
                self._num_pending -= len(oldest.counts)
                self.num_dropped += oldest.num_records

    def withdraw(self) -> None:
        """What waits for a first answer gets none: the replica that comes next does not know it."""
        with self._lock:
            self.num_dropped += sum(pending.records.num_records for pending in self._pending)
            self._pending.clear()
            self._num_pending = 0

    def answered(self, serial: int) -> None:
        """The replica of this number answered: what it knows is now in the weights that answer."""
        if not self._pending:
            return
        now_ms = self.clock_ms()
        with self._lock:
            while self._pending and self._pending[0].serial <= serial:
                _, records, until_applied_ms = self._pending.popleft()
                self._num_pending -= len(records.counts)
                self.whole.add(np.clip(now_ms - records.kafka_ms, 0, MAX_MS), records.counts)
                parts_ms = records.parts_ms((*until_applied_ms, now_ms))
                for part, delays_ms in zip(PARTS, parts_ms, strict=True):
                    self.parts[part].add(np.clip(delays_ms, 0, MAX_MS), records.counts)

    def collect(self) -> Iterator[Metric]:
        """The histograms in Prometheus' terms."""
        with self._lock:
            buckets, sum_seconds = self.whole.histogram(BUCKETS_SECONDS)
            parts = {part: bins.histogram(PART_BUCKETS_SECONDS) for part, bins in self.parts.items()}
        yield HistogramMetricFamily(
            "headwater_event_to_weights_seconds",
            "From a record's Kafka time to the first answer by weights that learned it.",
            buckets=buckets,
            sum_value=sum_seconds,
        )
        by_part = HistogramMetricFamily(
            "headwater_freshness_seconds",
            "The parts of headwater_event_to_weights_seconds, which add up to it.",
            labels=["part"],
        )
        for part, (part_buckets, part_sum) in parts.items():
            by_part.add_metric([part], part_buckets, part_sum)
        yield by_part
