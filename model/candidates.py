"""Which items a prediction may name: those that the stream has brought, less those that the user has acted on.

Shapes: Q queries, I rows of the item table.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from model.batch import NewEvents
from model.layout import Integers
from model.windows import EncodedSequence

_NEVER = np.iinfo(np.int64).max


class Candidates:
    """Number of the first event of each row; a row is a candidate for all later events."""

    def __init__(self) -> None:
        self._first = np.full(1_024, _NEVER)

    def note(self, row: int, number: int) -> None:
        """An event of a row; only its first one counts."""
        while row >= len(self._first):
            self._first = np.concatenate([self._first, np.full(len(self._first), _NEVER)])
        self._first[row] = min(self._first[row], number)

    def before(self, numbers_Q: npt.NDArray[np.int64], num_rows: int) -> npt.NDArray[np.bool_]:
        """Whether each of the first rows had an event strictly before each number, [Q, I]."""
        first_I = np.full(num_rows, _NEVER)
        first_I[: len(self._first)] = self._first[:num_rows]
        before_QI: npt.NDArray[np.bool_] = first_I < numbers_Q[:, None]
        return before_QI

    def clear(self, rows: Integers) -> None:
        """Forget rows that were taken back."""
        self._first[rows[rows < len(self._first)]] = _NEVER

    def state(self, num_rows: int) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        first_I = np.full(num_rows, _NEVER)
        first_I[: len(self._first)] = self._first[:num_rows]
        return {"candidates.first": first_I}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        first = arrays["candidates.first"]
        self._first = np.concatenate([first, np.full(max(1_024, len(first)), _NEVER)])


def leave_out_seen(
    candidates_QI: npt.NDArray[np.bool_], events: NewEvents, sequences: Sequence[EncodedSequence]
) -> npt.NDArray[np.bool_]:
    """Take out, in place, what each event's user acted on in earlier groups; returns which targets are repeats, [Q].

    A repeat's own target stays, so that it can be ranked in the series of repeats.
    """
    repeat_Q = np.zeros(len(events), dtype=np.bool_)
    for query, (owner, index, row) in enumerate(zip(events.owners, events.indexes, events.rows, strict=True)):
        sequence = sequences[owner]
        end = sequence.group_starts[index]
        seen = sequence.rows[:end][sequence.actions[:end] != 0]
        was_candidate = candidates_QI[query, row]
        candidates_QI[query, seen] = False
        repeat_Q[query] = row > 0 and (seen == row).any()
        candidates_QI[query, row] = was_candidate
    return repeat_Q
