"""Which items a prediction may not name, though the stream has brought them: those that the user has acted on.

Shapes: Q queries, I rows of the item table.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model.batch import NewEvents
from model.windows import EncodedSequence


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
