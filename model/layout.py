"""Where the sequences of a batch lie, who sees whom, and from how far: what attention needs beside the tokens.

Shapes: B sequences, T tokens of all sequences one after the other, S sequences of one length, n that length.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Run:
    """Sequences of one length that lie next to each other."""

    start: int
    """First token."""
    count: int
    """S, the number of sequences."""
    length: int
    """n, the tokens of each."""
    num_history: int
    """Of these, how many are history; the rest are targets."""

    def cut(self, values_T: Integers) -> Integers:
        """Values of this run's tokens, [S, n]."""
        return values_T[self.start : self.start + self.count * self.length].reshape(self.count, self.length)


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """Sequences of a batch, each first its history, then its targets (which only they themselves see).

    A token sees the keys [first, end) of its sequence's history, and itself. Indexes count from its sequence's first
    token. `sequence_layout` makes the usual ones; anything else that is an interval may be written down directly.
    Times are int64 seconds.
    """

    offsets: Integers
    """First token of each sequence, and T, [B + 1]."""
    num_history: Integers
    """History tokens of each sequence, [B]."""
    seconds_T: Integers
    """When each token's event was; a target's own entry is what it sees itself with."""
    query_seconds_T: Integers
    """The time that each token predicts at: of the next event, or now."""
    positions_T: Integers
    """Index of a history token; of a target, the index it would have as the next token of its history."""
    first_T: Integers
    """First key that a token sees."""
    end_T: Integers
    """One past the last key that a token sees, at most its sequence's number of history tokens."""

    def __post_init__(self) -> None:
        if len(self.offsets) == 0 or self.offsets[0] != 0 or np.any(np.diff(self.offsets) < 1):
            raise ValueError("offsets must begin with 0 and rise: no sequence is empty")
        columns = {name: len(getattr(self, name)) for name in _COLUMNS}
        if set(columns.values()) != {self.num_tokens} or len(self.num_history) != self.num_sequences:
            raise ValueError(f"columns must have one entry for each of {self.num_tokens} tokens, got {columns}")
        limit_T = np.repeat(self.num_history, np.diff(self.offsets))
        index_T = np.arange(self.num_tokens) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        is_history_T = index_T < limit_T
        if np.any(self.num_history < 0) or np.any(self.end_T > limit_T) or np.any(self.first_T < 0):
            raise ValueError("first and end must lie within each sequence's history")
        if np.any(is_history_T & ((self.first_T > index_T) | (self.end_T <= index_T) | (self.positions_T != index_T))):
            raise ValueError("a history token must see itself, and its position must be its index")

    @property
    def num_tokens(self) -> int:
        """T."""
        return int(self.offsets[-1])

    @property
    def num_sequences(self) -> int:
        """B."""
        return len(self.offsets) - 1

    def last_history(self) -> Integers:
        """Token of each sequence's last history token: what its next item is predicted from."""
        return self.offsets[:-1] + self.num_history - 1

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Neighbours of equal length and number of targets, together."""
        shapes_B2 = np.stack([np.diff(self.offsets), self.num_history], 1)
        changes = np.flatnonzero(np.any(shapes_B2[1:] != shapes_B2[:-1], axis=1)) + 1
        edges = [0, *changes.tolist(), len(shapes_B2)] if len(shapes_B2) else [0]
        return tuple(
            Run(int(self.offsets[low]), high - low, int(shapes_B2[low, 0]), int(shapes_B2[low, 1]))
            for low, high in pairwise(edges)
        )


_COLUMNS = ("seconds_T", "query_seconds_T", "positions_T", "first_T", "end_T")


def sequence_layout(
    offsets: Integers,
    seconds_T: Integers,
    query_seconds_T: Integers,
    *,
    num_targets: Integers | None = None,
    target_ends: Integers | None = None,
    num_prefix: Integers | None = None,
    local_window: int | None = None,
) -> Layout:
    """Causal histories, then targets, with the masks of HSTU.md section 2 as key intervals.

    The last `num_targets` [B] tokens of each sequence are targets: each sees itself and the history up to its entry in
    `target_ends` (one for each target in order, in history tokens; without it, the whole history). The first
    `num_prefix` [B] tokens are a contextual prefix and see the whole history: what is learned from a history token
    is then told what follows it, so that such a layout is for learning from targets alone (context tokens that are
    merely the oldest history need no `num_prefix`). With `local_window` W a token sees itself and the W before it;
    the prefix counts as one place just before the history. Raises `ValueError` for columns that do not fit.
    """
    lengths = np.diff(offsets)
    num_targets = np.zeros(len(lengths), np.int64) if num_targets is None else num_targets
    num_prefix = np.zeros(len(lengths), np.int64) if num_prefix is None else num_prefix
    if local_window is not None and local_window < 1:
        raise ValueError(f"local_window must be >= 1, got {local_window}")
    num_history = lengths - num_targets
    index_T = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    history_T, prefix_T = np.repeat(num_history, lengths), np.repeat(num_prefix, lengths)
    is_target_T, is_prefix_T = index_T >= history_T, index_T < prefix_T
    positions_T = np.minimum(index_T, history_T)
    if target_ends is not None:
        positions_T[is_target_T] = target_ends
    end_T = np.where(is_target_T, positions_T, np.where(is_prefix_T, history_T, index_T + 1))
    return Layout(
        offsets=offsets,
        num_history=num_history,
        seconds_T=seconds_T,
        query_seconds_T=query_seconds_T,
        positions_T=positions_T,
        first_T=_first_keys(positions_T, prefix_T, local_window),
        end_T=end_T,
    )


def _first_keys(positions_T: Integers, prefix_T: Integers, local_window: int | None) -> Integers:
    """First key of each token, given the length of its sequence's prefix, which counts as one place."""
    if local_window is None:
        return np.zeros_like(positions_T)
    place_T = positions_T - np.maximum(prefix_T - 1, 0)
    return np.where((positions_T < prefix_T) | (place_T <= local_window), 0, positions_T - local_window)


def next_seconds(offsets: Integers, seconds_T: Integers, last_B: Integers) -> Integers:
    """Query times of plain histories: each token's is the time of the next one, the last one's is given.

    >>> next_seconds(np.array([0, 3, 4]), np.array([1, 5, 9, 7]), np.array([10, 20])).tolist()
    [5, 9, 10, 20]
    """
    queries_T = np.roll(seconds_T, -1)
    queries_T[offsets[1:] - 1] = last_B
    return queries_T
