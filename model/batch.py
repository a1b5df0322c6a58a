"""The new events of a micro-batch in the order of the stream, and its sequences in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.layout import Integers
from model.sequence import NEW_ACTION, UserSequence
from model.windows import EncodedSequence, group_starts

_COLUMNS = ("item_ids", "ts_ms", "actions", "values", "groups", "new", "order")


@dataclass(frozen=True, slots=True)
class NewEvents:
    """New events as columns, in the order of the stream."""

    owners: Integers
    """Index of the event's sequence in the batch."""
    indexes: Integers
    """Index of the event in its sequence."""
    rows: Integers
    """Row of its item; -1 until it is admitted."""
    actions: Integers
    new: Integers
    numbers: Integers
    """Number of the event in the whole stream, from 0."""
    values: npt.NDArray[np.float64]
    """Value that came with the newest action; NaN where there was none."""
    exposure_rates: npt.NDArray[np.float64]
    """Share of the exposures without an action that the event's sequence holds."""

    def __len__(self) -> int:
        return len(self.owners)

    @property
    def is_target(self) -> npt.NDArray[np.bool_]:
        """Whether the event's first action is new: it is predicted, scored and learned by retrieval."""
        targets: npt.NDArray[np.bool_] = (self.new & NEW_ACTION != 0) & (self.actions != 0)
        return targets

    def select(self, chosen: npt.NDArray[np.bool_] | slice) -> "NewEvents":
        """Some of the events."""
        return NewEvents(
            self.owners[chosen],
            self.indexes[chosen],
            self.rows[chosen],
            self.actions[chosen],
            self.new[chosen],
            self.numbers[chosen],
            self.values[chosen],
            self.exposure_rates[chosen],
        )


def order_events(sequences: Sequence[UserSequence], first_number: int) -> NewEvents:
    """All new events, in the order of the stream, numbered from `first_number`; rows are not known yet.

    Raises `ValueError` where columns differ in length or a user comes twice.
    """
    check_sequences(sequences)
    indexes = [np.flatnonzero(sequence.new) for sequence in sequences]
    owners = np.repeat(np.arange(len(sequences)), [len(index) for index in indexes])
    columns = {
        name: np.concatenate(
            [getattr(sequence, name)[index] for sequence, index in zip(sequences, indexes, strict=True)]
        )
        if sequences
        else np.zeros(0, np.int64)
        for name in ("order", "actions", "new", "values")
    }
    index = np.concatenate([np.zeros(0, np.int64), *indexes])
    sort = np.lexsort((index, owners, columns["order"]))
    return NewEvents(
        owners[sort],
        index[sort],
        np.full(len(sort), -1),
        columns["actions"][sort],
        columns["new"][sort],
        first_number + np.arange(len(sort)),
        columns["values"][sort].astype(np.float64),
        np.array([sequence.exposure_rate for sequence in sequences])[owners[sort]],
    )


def encode_sequence(sequence: UserSequence, rows: Integers, place: Integers) -> EncodedSequence:
    """A sequence in numbers, given the rows of its items and the places of its new events in the batch."""
    return EncodedSequence(
        rows=rows,
        seconds=sequence.ts_ms // 1_000,
        actions=sequence.actions,
        group_starts=group_starts(sequence.groups),
        new=sequence.new,
        place=place,
    )


def check_sequences(sequences: Sequence[UserSequence]) -> None:
    """Raise `ValueError` where columns differ in length or a user comes twice."""
    users = set()
    for sequence in sequences:
        if sequence.user_id in users:
            raise ValueError(
                f"a user must come once in a batch, got {sequence.user_id[:64]!r} twice: merge the rows first"
            )
        users.add(sequence.user_id)
        lengths = {len(getattr(sequence, name)) for name in _COLUMNS}
        if len(lengths) != 1:
            raise ValueError(f"columns of a sequence must have one length, got {sorted(lengths)}")
