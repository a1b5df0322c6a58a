"""Windows: how a sequence with new events is cut, so that each is scored and learned once, with its context.

One window holds BOS and up to `window` - 1 events as history tokens, and one target token for each new event that it
covers. Where a window begins and how long it is padded follows from what lies *before* its first new event, never
from what comes after: a prediction is the same whatever else is in the batch.

Shapes: T tokens of all windows, E targets.
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
    """Windows one after the other as tensors, each with its history tokens, then its target tokens."""

    rows_T: Tensor
    """Row of each token's item, 0 where it has none."""
    has_item_T1: Tensor
    """1.0 where the token has an item."""
    actions_T: Tensor
    """Action masks of the history tokens; -1 where the token is no event."""
    reads_E: Tensor
    """For each target of all windows in turn: the last token before its group."""
    targets_E: Tensor
    """The target's own token."""
    layout: Layout


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
    """Windows as one batch with room for `num_targets` target tokens in each.

    A target stands one token after the last one that it sees. A window's last token is asked at the time of the event
    that follows it, if there is one.
    """
    offsets = np.cumsum([0, *(window.length + num_targets for window in windows)])
    rows, has_item = np.zeros(offsets[-1], np.int64), np.zeros((offsets[-1], 1), np.float32)
    times, queries, actions = rows.copy(), rows.copy(), np.full(offsets[-1], -1)
    ends, reads, targets = np.ones((len(windows), num_targets), np.int64), [], []
    for window, bos, ends_T in zip(windows, offsets.tolist(), ends, strict=False):
        sequence, last = window.sequence, bos + window.end - window.start
        seconds = sequence.seconds[window.start : window.end + 1]
        history, target = slice(bos + 1, last + 1), bos + window.length + np.arange(len(window.targets))
        rows[history], rows[target] = sequence.rows[window.start : window.end], sequence.rows[window.targets]
        has_item[history], has_item[target] = 1, 1
        actions[history] = sequence.actions[window.start : window.end]
        times[bos], times[history] = seconds[0], sequence.seconds[window.start : window.end]
        queries[bos : bos + len(seconds)], queries[last] = seconds, seconds[-1]
        times[target] = queries[target] = sequence.seconds[window.targets]
        read = history_reads(window, window.targets)
        ends_T[: len(target)] = read + 1
        reads.append(bos + read)
        targets.append(target)
    room = np.full(len(windows), num_targets)
    return WindowBatch(
        torch.from_numpy(rows).to(device),
        torch.from_numpy(has_item).to(device),
        torch.from_numpy(actions).to(device),
        torch.from_numpy(np.concatenate(reads)).to(device),
        torch.from_numpy(np.concatenate(targets)).to(device),
        sequence_layout(offsets, times, queries, num_targets=room, target_ends=ends.ravel()),
    )
