"""Windows: how a sequence with new events is cut, so that each is scored and learned once, with its context.

One window holds BOS and as many events as `window` tokens have room for (`TokenOrder`), what was told of the user
among them, and, where the layout has
target tokens, one for each new event that it covers. Where a window begins and how long it is padded follows from what
lies *before* its first new event, never from what comes after: a prediction is the same whatever else is in the batch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.layout import Integers
from model.settings import TILE
from model.token_order import TokenOrder
from model.user_features import newest_of_each

_ROOM = TILE // 2
"""Least number of events that a window has room for after its context."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSequence:
    """A sequence in numbers: its events, and between them, by time, what was told of the user."""

    rows: Integers
    """Row of each event's item; 0 for a feature, and where the item has none of its own."""
    keys: Integers
    """Key of each event's item; 0 for a feature."""
    seconds: Integers
    actions: Integers
    """Action masks; 0 for a feature."""
    features: Integers
    """Hashed rows of a feature's name and of its value, [n, 2]; -1 for an event."""
    group_starts: Integers
    """Index of the first entry of each one's group; a feature is one of its own."""
    new: Integers
    """Bits NEW_*; 0 is context."""
    place: Integers
    """Place of each new event in the batch's order; -1 for the others."""

    @property
    def is_feature(self) -> npt.NDArray[np.bool_]:
        """Which entries are no events."""
        told: npt.NDArray[np.bool_] = self.features[:, 0] >= 0
        return told

    def pick(self, entries: Integers) -> "EncodedSequence":
        """Some of the entries, in their order."""
        return EncodedSequence(
            rows=self.rows[entries],
            keys=self.keys[entries],
            seconds=self.seconds[entries],
            actions=self.actions[entries],
            features=self.features[entries],
            group_starts=np.searchsorted(entries, self.group_starts[entries]),
            new=self.new[entries],
            place=self.place[entries],
        )


@dataclass(frozen=True, slots=True)
class Window:
    """The first `end` entries of a sequence are its history; `targets` are the indexes of the new events it covers."""

    sequence: EncodedSequence
    end: int
    length: int
    """Padded number of history tokens, BOS among them."""
    targets: Integers

    def reads(self, events: Integers, order: TokenOrder) -> Integers:
        """The last history token before each event's group; 0, the BOS token, where there is none."""
        return order.tokens_per_event * self.sequence.group_starts[events]


def group_starts(groups: Integers) -> Integers:
    """Index of the first event of each run of equal numbers.

    >>> group_starts(np.array([7, 7, 9, 7])).tolist()
    [0, 0, 2, 3]
    """
    index = np.arange(len(groups))
    first = np.ones(len(groups), dtype=bool)
    first[1:] = groups[1:] != groups[:-1]
    return np.maximum.accumulate(np.where(first, index, 0))


def cut_windows(sequence: EncodedSequence, window: int, order: TokenOrder) -> list[Window]:
    """The windows that cover every new event of a sequence exactly once, oldest first.

    A window has room for at least 16 entries from the first new one on, covers at most 32 new ones, and holds as much
    of what is before as the tokens that are left allow (`newest_entries`).
    """
    new = np.flatnonzero(sequence.new)
    windows = []
    while len(new):
        first = int(new[0])
        before, length = history(sequence, first, window, order)
        end = min(len(sequence.rows), first + most_events(length, order) - len(before))
        targets = new[:TILE][new[:TILE] < end]
        entries = np.r_[before, first : targets[-1] + 1]
        windows.append(Window(sequence.pick(entries), len(entries), length, targets - first + len(before)))
        new = new[len(targets) :]
    return windows


def history(sequence: EncodedSequence, until: int, window: int, order: TokenOrder) -> tuple[Integers, int]:
    """Of the window for events that follow the first `until` entries: those that it sees, and its padded length."""
    entries = newest_entries(sequence, until, most_context(window, order))
    return entries, padded(1 + order.tokens_per_event * (len(entries) + _ROOM))


def most_context(window: int, order: TokenOrder) -> int:
    """Entries that may come before a window's first new event."""
    return most_events(window, order) - _ROOM


def newest_entries(sequence: EncodedSequence, until: int, most: int) -> Integers:
    """Indexes of the newest of the first `until` entries, at most so many.

    Up to a quarter of them are features that were told of before the others and still hold.
    """
    if until <= most:
        return np.arange(until)
    names = sequence.features[:until, 0]
    room = len(newest_of_each(names, most // 4))
    start = until - most + room
    return np.concatenate([newest_of_each(names[:start], room), np.arange(start, until)])


def most_events(num_tokens: int, order: TokenOrder) -> int:
    """Events that so many tokens have room for, behind BOS."""
    return (num_tokens - 1) // order.tokens_per_event


def padded(num_tokens: int) -> int:
    """The next multiple of the tile."""
    return -(-num_tokens // TILE) * TILE
