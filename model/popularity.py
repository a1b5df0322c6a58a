"""How often items were acted on lately: the bar of every prequential figure, and logQ's estimate."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from model.growth import clear_rows, with_room

HALF_LIFE_EVENTS = 5_000
"""Actions after which an action counts half."""
_RESCALE_AFTER = 50 * HALF_LIFE_EVENTS


class Popularity:
    """Decayed count of each row's actions.

    A count is kept relative to an origin: instead of shrinking all counts, each action adds 2^(actions since the
    origin / half-life), and the origin moves before that becomes large.
    """

    def __init__(self) -> None:
        self._raw = np.zeros(1_024)
        self._since_origin = 0

    def raw(self, num_rows: int) -> npt.NDArray[np.float64]:
        """Counts of the first rows up to one common factor; a view where it can be."""
        self._raw = with_room(self._raw, num_rows)
        return self._raw[:num_rows]

    def next_weights(self, num_actions: int) -> npt.NDArray[np.float64]:
        """What each of the next actions will add to its row's raw count."""
        steps = self._since_origin + 1 + np.arange(num_actions)
        weights: npt.NDArray[np.float64] = np.exp2(steps / HALF_LIFE_EVENTS)
        return weights

    def update(self, rows: npt.NDArray[np.int64]) -> None:
        """Count actions on rows, in the order of the stream."""
        if len(rows) == 0:
            return
        np.add.at(self.raw(int(rows.max()) + 1), rows, self.next_weights(len(rows)))
        self._since_origin += len(rows)
        if self._since_origin > _RESCALE_AFTER:
            self._raw *= 2.0 ** (-self._since_origin / HALF_LIFE_EVENTS)
            self._since_origin = 0

    def counts(self, num_rows: int) -> npt.NDArray[np.float64]:
        """Decayed counts of the first rows as of now."""
        counts: npt.NDArray[np.float64] = self.raw(num_rows) * 2.0 ** (-self._since_origin / HALF_LIFE_EVENTS)
        return counts

    def clear(self, rows: npt.NDArray[np.int64]) -> None:
        """Forget rows that were taken back."""
        clear_rows(self._raw, rows)

    def state(self, num_rows: int) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        since = np.array([self._since_origin])
        return {"popularity.raw": self.raw(num_rows).copy(), "popularity.since_origin": since}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self._raw = arrays["popularity.raw"].copy()
        self._since_origin = int(arrays["popularity.since_origin"][0])

    def before_each(self, rows: npt.NDArray[np.int64], num_rows: int) -> npt.NDArray[np.float64]:
        """Decayed counts [Q, I] as of just before each of the next actions, which are on `rows` [Q]."""
        counts = np.repeat(self.raw(num_rows)[None], len(rows), 0)
        for place, (row, weight) in enumerate(zip(rows, self.next_weights(len(rows)), strict=True)):
            counts[place + 1 :, row] += weight
        ages = self._since_origin + np.arange(len(rows))
        counts *= np.exp2(-ages / HALF_LIFE_EVENTS)[:, None]
        return counts
