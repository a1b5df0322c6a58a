"""How long an event takes into the weights that answer, from its Kafka time to the first answer that knows it."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

BIN_MS = 10
"""Resolution of the quantiles."""
MAX_MS = 600_000
"""Longer delays count as this."""
MAX_PENDING = 1_000_000
"""Most (Kafka time, count) pairs that wait for a first answer; the oldest give way and are counted."""
BUCKETS_SECONDS = (
    *(0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
    *(12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 75.0, 90.0, 120.0),
)
"""Upper edges of the exported histogram; the last bucket is open."""


class _Learned(NamedTuple):
    serial: int
    kafka_ms: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


class Freshness(Collector):
    """Delays between records' Kafka times and the first answer by weights that learned them.

    `learned` says what a replica knows that the ones before it did not; `answered` says that a replica has answered.
    A replica's `serial` grows with each one loaded. Delays are binned by 10 ms, so the quantiles are exact to that.
    Safe to use from any thread.
    """

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self.clock_ms = clock_ms
        self.num_dropped = 0
        """Records never measured, because too many waited for an answer, or a rollback came first."""
        self._counts = np.zeros(MAX_MS // BIN_MS + 1, np.int64)
        self._sum_ms = 0
        self._pending: deque[_Learned] = deque()
        self._num_pending = 0
        self._lock = threading.Lock()

    def learned(self, serial: int, records: list[tuple[int, int]]) -> None:
        """The replica of this number is the first to know these records: (Kafka time in ms, how many)."""
        if not records:
            return
        pairs = np.array(records, np.int64).reshape(-1, 2)
        with self._lock:
            self._pending.append(_Learned(serial, pairs[:, 0], pairs[:, 1]))
            self._num_pending += len(pairs)
            while self._num_pending > MAX_PENDING and len(self._pending) > 1:
                oldest = self._pending.popleft()
                self._num_pending -= len(oldest.counts)
                self.num_dropped += int(oldest.counts.sum())

    def withdraw(self) -> None:
        """What waits for a first answer gets none: the replica that comes next does not know it."""
        with self._lock:
            self.num_dropped += sum(int(learned.counts.sum()) for learned in self._pending)
            self._pending.clear()
            self._num_pending = 0

    def answered(self, serial: int) -> None:
        """The replica of this number answered: what it knows is now in the weights that answer."""
        if not self._pending:
            return
        now_ms = self.clock_ms()
        with self._lock:
            while self._pending and self._pending[0].serial <= serial:
                learned = self._pending.popleft()
                self._num_pending -= len(learned.counts)
                delays_ms = np.clip(now_ms - learned.kafka_ms, 0, MAX_MS)
                np.add.at(self._counts, delays_ms // BIN_MS, learned.counts)
                self._sum_ms += int(delays_ms @ learned.counts)

    @property
    def count(self) -> int:
        """Records measured."""
        return int(self._counts.sum())

    def quantile_seconds(self, share: float) -> float | None:
        """The delay that this share of the records does not exceed; None before the first measured one.

        >>> freshness = Freshness(lambda: 5_000)
        >>> freshness.learned(1, [(1_000, 9), (3_000, 1)])
        >>> freshness.answered(1)
        >>> freshness.quantile_seconds(0.05), freshness.quantile_seconds(0.5)
        (2.01, 4.01)
        """
        with self._lock:
            cumulative = self._counts.cumsum()
        if cumulative[-1] == 0:
            return None
        bin_number = int(np.searchsorted(cumulative, share * cumulative[-1]))
        return (bin_number + 1) * BIN_MS / 1000

    def collect(self) -> Iterator[Metric]:
        """The histogram in Prometheus' terms."""
        with self._lock:
            cumulative, sum_seconds = self._counts.cumsum(), self._sum_ms / 1000
        # A delay of exactly an edge lies in the bin above it, so the bins below an edge are those under it.
        edges = [(str(edge), float(cumulative[int(edge * 1000) // BIN_MS - 1])) for edge in BUCKETS_SECONDS]
        yield HistogramMetricFamily(
            "headwater_event_to_weights_seconds",
            "From a record's Kafka time to the first answer by weights that learned it.",
            buckets=[*edges, ("+Inf", float(cumulative[-1]))],
            sum_value=sum_seconds,
        )
