"""The new events of a micro-batch in the order of the stream, and its sequences in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.layout import Integers
from model.sequence import NEW_ACTION, NEW_LATE_ACTION, UserSequence
from model.settings import ModelSettings
from model.user_features import NO_FEATURE, categories, feature_rows
from model.windows import EncodedSequence, group_starts

_COLUMNS = ("item_ids", "ts_ms", "actions", "values", "groups", "new", "order")


@dataclass(frozen=True, slots=True)
class SequenceItems:
    """The items of a sequence's events."""

    keys: Integers
    rows: Integers
    """0 where an item has none of its own."""


@dataclass(frozen=True, slots=True)
class NewEvents:
    """New events as columns, in the order of the stream."""

    owners: Integers
    """Index of the event's sequence in the batch."""
    indexes: Integers
    """Index of the event in its sequence; among the entries of that in numbers, once it is."""
    rows: Integers
    """Row of its item; 0 where it has none of its own."""
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

    @property
    def is_late(self) -> npt.NDArray[np.bool_]:
        """Whether the event was learned before as an exposure without an action."""
        late: npt.NDArray[np.bool_] = self.new & NEW_LATE_ACTION != 0
        return late

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
        np.zeros(len(sort), np.int64),
        columns["actions"][sort],
        columns["new"][sort],
        first_number + np.arange(len(sort)),
        columns["values"][sort].astype(np.float64),
        np.array([sequence.exposure_rate for sequence in sequences])[owners[sort]],
    )


def encode_sequence(
    sequence: UserSequence, items: SequenceItems, place: Integers, settings: ModelSettings
) -> tuple[EncodedSequence, Integers]:
    """A sequence in numbers, and the index of each of its events among the entries.

    Given are the places of its new events in the batch. Without rows for features these are left out. A feature stands
    before the group that its update is not after.
    """
    rows = items.rows
    told = categories(sequence.features) if settings.feature_rows else []
    starts = group_starts(sequence.groups)
    before = np.array([starts[each.place] if each.place < len(starts) else each.place for each in told], np.int64)
    at = np.arange(len(rows)) + np.searchsorted(before, np.arange(len(rows)), side="right")
    is_event = np.zeros(len(rows) + len(told), np.bool_)
    is_event[at] = True

    def spread(events: Integers, other: Integers | int) -> Integers:
        column = np.zeros((len(is_event), *events.shape[1:]), np.int64)
        column[is_event], column[~is_event] = events, other
        return column

    encoded = EncodedSequence(
        rows=spread(rows, 0),
        keys=spread(items.keys, 0),
        seconds=spread(sequence.ts_ms // 1_000, np.array([each.ts_ms // 1_000 for each in told], np.int64)),
        actions=spread(sequence.actions, 0),
        features=spread(np.full((len(rows), 2), NO_FEATURE), feature_rows(told, settings.feature_rows)),
        group_starts=spread(at[starts], np.flatnonzero(~is_event)),
        new=spread(sequence.new, 0),
        place=spread(place, -1),
    )
    return encoded, at


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
