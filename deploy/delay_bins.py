"""Delays counted by 10 ms: quantiles, and a histogram for Prometheus."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BIN_MS = 10
"""Resolution of the quantiles."""
MAX_MS = 600_000
"""Longer delays count as this."""


class DelayBins:
    """How many records had which delay.

    >>> bins = DelayBins()
    >>> bins.add(np.array([4_000, 2_000]), np.array([9, 1]))
    >>> bins.quantile_seconds(0.05), bins.quantile_seconds(0.5)
    (2.01, 4.01)
    """

    def __init__(self) -> None:
        self._counts = np.zeros(MAX_MS // BIN_MS + 1, np.int64)
        self._sum_ms = 0

    def add(self, delays_ms: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        """So many records had each delay, of 0 to `MAX_MS`."""
        np.add.at(self._counts, delays_ms // BIN_MS, counts)
        self._sum_ms += int(delays_ms @ counts)

    @property
    def count(self) -> int:
        """Records measured."""
        return int(self._counts.sum())

    def quantile_seconds(self, share: float) -> float | None:
        """The delay that this share of the records does not exceed; None before the first measured one."""
        cumulative = self._counts.cumsum()
        if cumulative[-1] == 0:
            return None
        return (int(np.searchsorted(cumulative, share * cumulative[-1])) + 1) * BIN_MS / 1000

    def histogram(self, edges_seconds: Sequence[float]) -> tuple[list[tuple[str, float]], float]:
        """(upper edge, records up to it) with an open last bucket, and the sum of all delays in seconds."""
        cumulative = self._counts.cumsum()
        # A delay of exactly an edge lies in the bin above it, so the bins below an edge are those under it.
        buckets = [(str(edge), float(cumulative[round(edge * 1000) // BIN_MS - 1])) for edge in edges_seconds]
        return [*buckets, ("+Inf", float(cumulative[-1]))], self._sum_ms / 1000
