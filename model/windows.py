"""Windows: how a sequence with new events is cut, so that each is scored and learned once, with its context.

One window holds BOS and up to `window` - 1 events as history tokens, and one target token for each new event that it
covers. Where a window begins and how long it is padded follows from what lies *before* its first new event, never
from what comes after: a prediction is the same whatever else is in the batch.

Shapes: B windows, L history tokens, T target tokens, R = L + T rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.layout import Integers, Layout, sequence_layout
from model.settings import TILE

_ROOM = TILE // 2
"""Least number of events that a window has room for after its context."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSequence:
    """A sequence in numbers: rows of the item table instead of ids."""

    rows: Integers
    seconds: Integers
    actions: Integers
    group_starts: Integers
    """Index of the first event of each event's group."""
    new: Integers
    """Bits NEW_*; 0 is context."""
    place: Integers
    """Place of each new event in the batch's order; -1 for the others."""


@dataclass(frozen=True, slots=True)
class Window:
    """Events [start, end) of a sequence are its tokens; `targets` are the indexes of the new events it covers."""

    sequence: EncodedSequence
    start: int
    end: int
    length: int
    """Padded number of history tokens, BOS among them."""
    targets: Integers


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows of one padded length as tensors; target tokens come after the history tokens."""

    windows: Sequence[Window]
    rows_BR: Tensor
    """Row of each token's item, 0 where it has none."""
    has_item_BR1: Tensor
    """1.0 where the token has an item."""
    actions_BL: Tensor
    """Action masks of the history tokens; -1 where the token is no event."""
    last_BT: Integers
    """History index of the last token before each target's group."""
    layout: Layout

    @property
    def num_history(self) -> int:
        """L, the padded number of history tokens."""
        return int(self.actions_BL.shape[1])


def group_starts(groups: Integers) -> Integers:
    """Index of the first event of each run of equal numbers.

    >>> group_starts(np.array([7, 7, 9, 7])).tolist()
    [0, 0, 2, 3]
    """
    index = np.arange(len(groups))
    first = np.ones(len(groups), dtype=bool)
    first[1:] = groups[1:] != groups[:-1]
    return np.maximum.accumulate(np.where(first, index, 0))


def cut_windows(sequence: EncodedSequence, window: int) -> list[Window]:
    """The windows that cover every new event of a sequence exactly once, oldest first.

    A window begins at most `window` - 17 events before the first new one, has room for at least 16 events from there
    and covers at most 32 new ones.
    """
    new = np.flatnonzero(sequence.new)
    windows = []
    while len(new):
        first = int(new[0])
        start, length = history_span(first, window)
        end = min(len(sequence.rows), start + length - 1)
        targets = new[:TILE][new[:TILE] < end]
        end = int(targets[-1]) + 1
        windows.append(Window(sequence, start, end, length, targets))
        new = new[len(targets) :]
    return windows


def history_span(num_events: int, window: int) -> tuple[int, int]:
    """Start and padded length of the window for the events that follow the first `num_events`.

    >>> history_span(0, 128), history_span(20, 128), history_span(500, 128)
    ((0, 32), (0, 64), (389, 128))
    """
    context = min(num_events, window - 1 - _ROOM)
    return num_events - context, -(-(context + 1 + _ROOM) // TILE) * TILE


def history_reads(window: Window, events: Integers) -> Integers:
    """History index of the last token before each event's group; 0, the BOS token, where there is none."""
    reads: Integers = np.maximum(window.sequence.group_starts[events] - window.start, 0)
    return reads


def batch_windows(windows: Sequence[Window], num_targets: int, device: torch.device) -> WindowBatch:
    """Windows of one padded length as one batch with room for `num_targets` target tokens in each."""
    length = windows[0].length
    shape = (len(windows), length + num_targets)
    rows, last = np.zeros(shape, np.int64), np.zeros((len(windows), num_targets), np.int64)
    times, has_item = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    queries, actions = np.zeros(shape, np.int64), np.full((len(windows), length), -1)
    for b, window in enumerate(windows):
        sequence, n, m = window.sequence, window.end - window.start, len(window.targets)
        tokens = slice(window.start, window.end)
        rows[b, 1 : n + 1], has_item[b, 1 : n + 1] = sequence.rows[tokens], 1
        actions[b, 1 : n + 1] = sequence.actions[tokens]
        times[b, 0], times[b, 1 : n + 1] = sequence.seconds[window.start], sequence.seconds[tokens]
        queries[b, :n], queries[b, n] = sequence.seconds[tokens], sequence.seconds[window.end - 1]
        rows[b, length : length + m] = sequence.rows[window.targets]
        has_item[b, length : length + m] = 1
        times[b, length : length + m] = sequence.seconds[window.targets]
        queries[b, length : length + m] = sequence.seconds[window.targets]
        last[b, :m] = history_reads(window, window.targets)
    return WindowBatch(
        windows,
        torch.from_numpy(rows).to(device),
        torch.from_numpy(has_item).to(device).unsqueeze(-1),
        torch.from_numpy(actions).to(device),
        last,
        window_layout(times, queries, last),
    )


def window_layout(times_BR: Integers, queries_BR: Integers, last_BT: Integers) -> Layout:
    """Windows of one padded length as a layout: history is causal, a target sees the history up to its `last_BT`.

    Times are int64 seconds. A target stands one token after the last one that it sees.
    """
    num_windows, num_rows = times_BR.shape
    return sequence_layout(
        np.arange(num_windows + 1) * num_rows,
        times_BR.ravel(),
        queries_BR.ravel(),
        num_targets=np.full(num_windows, last_BT.shape[1]),
        target_ends=last_BT.ravel() + 1,
    )
