"""Values of actions (seconds of play, stars) on a scale that one loss suits, whatever their unit.

A value v becomes (asinh(v) - mean) / deviation, with both taken over all values so far: asinh is linear near 0,
logarithmic far from it, and takes any sign.
"""

from collections.abc import Mapping

import numpy as np

from model.metrics import Floats

_MOST = 40.0
"""asinh of a value that no unit needs: what is beyond would overflow."""


class ValueScale:
    """Mean and deviation of asinh(value) over all values so far; a value is on its own scale until there are two."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0.0, 0.0, 0.0

    def update(self, values: Floats) -> None:
        """Take in values; those that are not finite are none."""
        known = np.arcsinh(values[np.isfinite(values)].astype(np.float64))
        self._count += len(known)
        self._sum += float(known.sum())
        self._squares += float((known**2).sum())

    def scaled(self, values: Floats) -> Floats:
        """Values on the scale; NaN where there is none."""
        mean, deviation = self._moments()
        scaled: Floats = (np.arcsinh(values.astype(np.float64)) - mean) / deviation
        return scaled

    def values(self, scaled: Floats) -> Floats:
        """What numbers on the scale stand for; `scaled` of them gives those numbers."""
        mean, deviation = self._moments()
        values: Floats = np.sinh(np.clip(scaled * deviation + mean, -_MOST, _MOST))
        return values

    def state(self) -> dict[str, np.ndarray]:
        """Copies for serving and for `load`."""
        return {"values.scale": np.array([self._count, self._sum, self._squares])}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self._count, self._sum, self._squares = arrays["values.scale"].tolist()

    def _moments(self) -> tuple[float, float]:
        if self._count < 2:
            return 0.0, 1.0
        mean = self._sum / self._count
        return mean, max(self._squares / self._count - mean**2, 1e-6) ** 0.5
