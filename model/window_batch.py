"""A batch of windows as tensors: one after the other, each with its history tokens, then its target tokens.

Shapes: T tokens of all windows, E targets, F what tokens tell of features, S tokens with an item without a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.layout import Integers, Layout, sequence_layout
from model.token_order import TokenOrder
from model.windows import Window


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """What the network is given."""

    rows_T: Tensor
    """Row of each token's item, 0 where it has none."""
    has_item_T1: Tensor
    """1.0 where the token has an item."""
    unknown_S: Tensor
    """Tokens with an item that has no row of its own."""
    unknown_keys_S: Integers
    """Keys of these items."""
    actions_T: Tensor
    """Action masks of the tokens that have one; -1 for the others."""
    told_F: Tensor
    """Tokens that tell of a feature."""
    features_F: Tensor
    """Hashed row of what each of them tells."""
    reads_E: Tensor
    """For each target of all windows in turn: the last token before its group."""
    targets_E: Tensor
    """The token that has the target's item, and not its actions."""
    windows_E: Tensor
    """The window that the target is in."""
    layout: Layout


def batch_windows(windows: Sequence[Window], num_targets: int, order: TokenOrder, device: torch.device) -> WindowBatch:
    """Windows as one batch with room for `num_targets` target tokens in each; without, items stand in the history.

    A target token stands one token after the last one that it sees.
    """
    offsets = np.cumsum([0, *(window.length + num_targets for window in windows)])
    tokens = _Tokens(int(offsets[-1]))
    ends, reads, targets = np.ones((len(windows), num_targets), np.int64), [], []
    for window, bos, ends_T in zip(windows, offsets.tolist(), ends, strict=False):
        tokens.put_history(window, bos, order)
        read = window.reads(window.targets, order)
        if num_targets:
            target = tokens.put_targets(window, bos + window.length)
            ends_T[: len(target)] = read + 1
        else:
            target = bos + order.item_tokens(window.sequence.group_starts, window.targets)
        reads.append(bos + read)
        targets.append(target)
    room = np.full(len(windows), num_targets)
    unknown = np.flatnonzero((tokens.has_item[:, 0] > 0) & (tokens.rows == 0))

    def tensor(*columns: np.ndarray) -> Tensor:
        return torch.from_numpy(np.concatenate(columns)).to(device)

    return WindowBatch(
        rows_T=tensor(tokens.rows),
        has_item_T1=tensor(tokens.has_item),
        unknown_S=tensor(unknown),
        unknown_keys_S=tokens.keys[unknown],
        actions_T=tensor(tokens.actions),
        told_F=tensor(*tokens.told),
        features_F=tensor(*tokens.features),
        reads_E=tensor(*reads),
        targets_E=tensor(*targets),
        windows_E=tensor(np.repeat(np.arange(len(windows)), [len(window.targets) for window in windows])),
        layout=sequence_layout(offsets, tokens.times, tokens.queries, num_targets=room, target_ends=ends.ravel()),
    )


class _Tokens:
    """Columns over all tokens of a batch."""

    def __init__(self, num_tokens: int) -> None:
        self.rows = np.zeros(num_tokens, np.int64)
        self.has_item = np.zeros((num_tokens, 1), np.float32)
        self.keys = np.zeros(num_tokens, np.int64)
        self.actions = np.full(num_tokens, -1)
        self.times, self.queries = np.zeros(num_tokens, np.int64), np.zeros(num_tokens, np.int64)
        self.told: list[Integers] = [np.zeros(0, np.int64)]
        self.features: list[Integers] = [np.zeros(0, np.int64)]

    def put_history(self, window: Window, bos: int, order: TokenOrder) -> None:
        """BOS and a window's entries; a feature's name stands where an event has its item, its value for the actions.

        An action is asked at the time of the entry that follows it, if there is one; an item at its own.
        """
        sequence = window.sequence
        tokens = order.tokens(sequence.group_starts[: window.end])
        entries, history = tokens.events, slice(bos + 1, bos + 1 + len(tokens.events))
        is_event = ~sequence.is_feature[entries]
        following = np.minimum(entries + 1, len(sequence.rows) - 1)
        self.rows[history] = sequence.rows[entries] * tokens.has_item
        self.has_item[history, 0] = tokens.has_item & is_event
        self.keys[history] = sequence.keys[entries]
        self.actions[history] = np.where(tokens.has_action & is_event, sequence.actions[entries], -1)
        self.times[history] = sequence.seconds[entries]
        self.queries[history] = sequence.seconds[np.where(tokens.has_action, following, entries)]
        self.times[bos] = self.queries[bos] = sequence.seconds[0]
        for part, has_part in enumerate((tokens.has_item, tokens.has_action)):
            telling = np.flatnonzero(has_part & ~is_event)
            self.told.append(bos + 1 + telling)
            self.features.append(sequence.features[entries[telling], part])

    def put_targets(self, window: Window, first: int) -> Integers:
        """A token for each target from `first` on; where they are."""
        sequence, targets = window.sequence, window.targets
        places = first + np.arange(len(targets))
        self.rows[places], self.has_item[places] = sequence.rows[targets], 1
        self.keys[places] = sequence.keys[targets]
        self.times[places] = self.queries[places] = sequence.seconds[targets]
        return places
