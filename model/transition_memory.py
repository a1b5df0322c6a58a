"""What followed each item lately, counted: a memory that needs one sighting where weights need several steps.

For each item a few successors with decayed counts, so that an event changes what is recommended at once, and a new item
can be reached after its first. What is added to an item's score is a learned gate times log(1 + sum over the user's
last items of count / recency): the idea of kNN-LM (Khandelwal et al. 2020, arXiv 1911.00172) for streams of items.

Shapes: Q targets, R last items of a user, S successors kept, M = R x S.
"""

from collections.abc import Mapping

import numpy as np

from model.growth import row_flags, with_room
from model.layout import Integers
from model.metrics import Floats

NUM_RECENT = 5
"""Last items of a user that are looked from."""
NUM_SUCCESSORS = 16
_DECAY = 0.99
"""An item's counts are multiplied by it each time that something follows the item."""
_WEIGHTS_R = 1 / np.arange(1, NUM_RECENT + 1)
"""By recency: the last item, the one before, ..."""


class TransitionMemory:
    """For each row of the item table the rows that followed it most, and how often; these are in the table, too."""

    def __init__(self) -> None:
        self._successors_IS = np.full((1_024, NUM_SUCCESSORS), -1, np.int32)
        self._counts_IS = np.zeros((1_024, NUM_SUCCESSORS), np.float32)

    def read(self, recent_R: Integers) -> tuple[Integers, Floats]:
        """Rows that followed a user's last items, newest first, and by how much; a row may come more than once, [M].

        -1 stands for an item that nothing is known of.
        """
        in_table_R = (recent_R >= 0) & (recent_R < len(self._successors_IS))
        recent_R, weights_R = recent_R[in_table_R], _WEIGHTS_R[: len(recent_R)][in_table_R]
        rows_RS, strengths_RS = self._successors_IS[recent_R], self._counts_IS[recent_R] * weights_R[:, None]
        known_RS = rows_RS >= 0
        return rows_RS[known_RS].astype(np.int64), strengths_RS[known_RS]

    def note(self, recent_R: Integers, row: int) -> None:
        """An action on a row, after those on the distinct `recent_R`; a new successor takes the rarest one's place."""
        if not len(recent_R):
            return
        self._make_room(max(int(recent_R.max()), row) + 1)
        counts_RS = self._counts_IS[recent_R] * np.float32(_DECAY)
        is_row_RS = self._successors_IS[recent_R] == row
        known_R = is_row_RS.any(1)
        places_R = np.where(known_R, is_row_RS.argmax(1), counts_RS.argmin(1))
        index_R = np.arange(len(recent_R))
        counts_RS[index_R, places_R] = counts_RS[index_R, places_R] * known_R + _WEIGHTS_R[: len(recent_R)]
        self._counts_IS[recent_R] = counts_RS
        self._successors_IS[recent_R, places_R] = row

    def clear(self, rows: Integers) -> None:
        """Forget rows that were taken back: what followed them, and that they followed others."""
        is_gone_I = row_flags(rows, max(len(self._successors_IS), int(rows.max(initial=0)) + 1))
        gone_IS = (self._successors_IS >= 0) & is_gone_I[self._successors_IS]
        gone_IS |= is_gone_I[: len(gone_IS), None]
        self._successors_IS[gone_IS] = -1
        self._counts_IS[gone_IS] = 0

    def state(self, num_rows: int) -> dict[str, np.ndarray]:
        """Copies for serving and for `load`."""
        self._make_room(num_rows)
        rows, counts = self._successors_IS[:num_rows].copy(), self._counts_IS[:num_rows].copy()
        return {"memory.successors": rows, "memory.counts": counts}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`; raises `ValueError` where it is none."""
        successors, counts = arrays.get("memory.successors"), arrays.get("memory.counts")
        if successors is None or counts is None or successors.shape != counts.shape:
            got = [None if array is None else array.shape for array in (successors, counts)]
            raise ValueError(f"memory.successors and memory.counts must have one shape, got {got}")
        if successors.shape[1:] != (NUM_SUCCESSORS,) or successors.max(initial=-1) >= len(successors):
            raise ValueError(
                f"memory.successors must have {NUM_SUCCESSORS} rows below {len(successors)} for each item, "
                f"got shape {successors.shape} up to {successors.max(initial=-1)}"
            )
        self._successors_IS, self._counts_IS = successors.copy(), counts.copy()

    def _make_room(self, num_rows: int) -> None:
        had = len(self._successors_IS)
        self._counts_IS = with_room(self._counts_IS, num_rows)
        self._successors_IS = with_room(self._successors_IS, num_rows)
        self._successors_IS[had:] = -1


def last_acted(rows: Integers, actions: Integers) -> Integers:
    """Rows that were acted on last, newest first, each once.

    >>> last_acted(np.array([3, 4, 3, 5, 6]), np.array([1, 1, 2, 0, 1])).tolist()
    [6, 3, 4]
    """
    newest = rows[actions != 0][: -NUM_RECENT - 1 : -1]
    first = np.unique(newest, return_index=True)[1]
    distinct: Integers = newest[np.sort(first)]
    return distinct
