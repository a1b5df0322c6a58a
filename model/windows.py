"""Windows: how a sequence with new events is cut, so that each is scored and learned once, with its context.

One window holds BOS and as many events as `window` tokens have room for (`TokenOrder`), and, where the layout has
target tokens, one for each new event that it covers. Where a window begins and how long it is padded follows from what
lies *before* its first new event, never from what comes after: a prediction is the same whatever else is in the batch.

Shapes: T tokens of all windows, E targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.layout import Integers, Layout, sequence_layout
from model.settings import TILE
from model.token_order import TokenOrder

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

    def group_starts(self) -> Integers:
        """Of its events, where their groups begin in it."""
        return np.maximum(self.sequence.group_starts[self.start : self.end] - self.start, 0)

    def reads(self, events: Integers, order: TokenOrder) -> Integers:
        """The last history token before each event's group; 0, the BOS token, where there is none."""
        return order.tokens_per_event * np.maximum(self.sequence.group_starts[events] - self.start, 0)


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows one after the other as tensors, each with its history tokens, then its target tokens."""

    rows_T: Tensor
    """Row of each token's item, 0 where it has none."""
    has_item_T1: Tensor
    """1.0 where the token has an item."""
    actions_T: Tensor
    """Action masks of the tokens that have one; -1 for the others."""
    reads_E: Tensor
    """For each target of all windows in turn: the last token before its group."""
    targets_E: Tensor
    """The token that has the target's item, and not its actions."""
    windows_E: Tensor
    """The window that the target is in."""
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


def cut_windows(sequence: EncodedSequence, window: int, order: TokenOrder) -> list[Window]:
    """The windows that cover every new event of a sequence exactly once, oldest first.

    A window has room for at least 16 events from the first new one on, covers at most 32 new ones, and begins as far
    before as the tokens that are left allow.
    """
    new = np.flatnonzero(sequence.new)
    windows = []
    while len(new):
        first = int(new[0])
        start, length = history_span(first, window, order)
        end = min(len(sequence.rows), start + most_events(length, order))
        targets = new[:TILE][new[:TILE] < end]
        end = int(targets[-1]) + 1
        windows.append(Window(sequence, start, end, length, targets))
        new = new[len(targets) :]
    return windows


def history_span(num_events: int, window: int, order: TokenOrder) -> tuple[int, int]:
    """Start and padded length of the window for the events that follow the first `num_events`.

    >>> from model.token_order import SummedTokens
    >>> order = SummedTokens()
    >>> history_span(0, 128, order), history_span(20, 128, order), history_span(500, 128, order)
    ((0, 32), (0, 64), (389, 128))
    """
    context = min(num_events, most_events(window, order) - _ROOM)
    return num_events - context, padded(1 + order.tokens_per_event * (context + _ROOM))


def most_events(num_tokens: int, order: TokenOrder) -> int:
    """Events that so many tokens have room for, behind BOS."""
    return (num_tokens - 1) // order.tokens_per_event


def padded(num_tokens: int) -> int:
    """The next multiple of the tile."""
    return -(-num_tokens // TILE) * TILE


def batch_windows(windows: Sequence[Window], num_targets: int, order: TokenOrder, device: torch.device) -> WindowBatch:
    """Windows as one batch with room for `num_targets` target tokens in each; without, items stand in the history.

    A target token stands one token after the last one that it sees. An action is asked at the time of the event that
    follows it, if there is one; an item at its own.
    """
    offsets = np.cumsum([0, *(window.length + num_targets for window in windows)])
    rows, has_item = np.zeros(offsets[-1], np.int64), np.zeros((offsets[-1], 1), np.float32)
    times, queries, actions = rows.copy(), rows.copy(), np.full(offsets[-1], -1)
    ends, reads, targets = np.ones((len(windows), num_targets), np.int64), [], []
    for window, bos, ends_T in zip(windows, offsets.tolist(), ends, strict=False):
        sequence, starts = window.sequence, window.group_starts()
        tokens = order.tokens(starts)
        events, history = window.start + tokens.events, slice(bos + 1, bos + 1 + len(tokens.events))
        following = np.minimum(events + 1, len(sequence.rows) - 1)
        rows[history], has_item[history, 0] = sequence.rows[events] * tokens.has_item, tokens.has_item
        actions[history] = np.where(tokens.has_action, sequence.actions[events], -1)
        times[history] = sequence.seconds[events]
        queries[history] = sequence.seconds[np.where(tokens.has_action, following, events)]
        times[bos] = queries[bos] = sequence.seconds[window.start]
        read = window.reads(window.targets, order)
        if num_targets:
            target = bos + window.length + np.arange(len(window.targets))
            rows[target], has_item[target] = sequence.rows[window.targets], 1
            times[target] = queries[target] = sequence.seconds[window.targets]
            ends_T[: len(target)] = read + 1
        else:
            target = bos + order.item_tokens(starts, window.targets - window.start)
        reads.append(bos + read)
        targets.append(target)
    owners = np.repeat(np.arange(len(windows)), [len(window.targets) for window in windows])
    room = np.full(len(windows), num_targets)
    return WindowBatch(
        torch.from_numpy(rows).to(device),
        torch.from_numpy(has_item).to(device),
        torch.from_numpy(actions).to(device),
        torch.from_numpy(np.concatenate(reads)).to(device),
        torch.from_numpy(np.concatenate(targets)).to(device),
        torch.from_numpy(owners).to(device),
        sequence_layout(offsets, times, queries, num_targets=room, target_ends=ends.ravel()),
    )
