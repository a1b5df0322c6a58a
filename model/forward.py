"""From windows to what the heads read, with item rows as one autograd leaf.

Shapes: T tokens of all windows, E new events, P replayed targets, U gathered rows, F counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.contents import Contents
from model.layout import Integers
from model.network import Network
from model.settings import TILE
from model.token_order import TokenOrder
from model.window_batch import WindowBatch, batch_windows
from model.windows import EncodedSequence, Window, padded


@dataclass(frozen=True, slots=True)
class Leaf:
    """Rows of the item table that one step reads and may change."""

    rows_U: Tensor
    """Rows in rising order, each once."""
    own_UD: Tensor
    """What they hold: what the gradient is taken of."""
    value_UD: Tensor
    """The items: that, and what their words say."""
    contents: Contents

    def place(self, rows: Tensor) -> Tensor:
        """Where each of the rows is in the leaf."""
        return torch.searchsorted(self.rows_U, rows)


@dataclass(frozen=True, slots=True)
class NewOutputs:
    """What the heads read for the new events, in the order of the stream."""

    query_ED: Tensor
    """Token before the event's group: who the user was then."""
    target_ED: Tensor
    """Target token of the event."""
    item_ED: Tensor
    """Its item as the backbone was given it."""
    seen_EF: Tensor
    """How many events it sees, and how many of them have each action."""


def encode_new(network: Network, leaf: Leaf, windows: Sequence[Window]) -> NewOutputs:
    """Outputs for all targets of the windows; each window has room for 32 target tokens, whatever it holds, or none."""
    if not windows:
        nothing_0D = leaf.value_UD[:0]
        return NewOutputs(nothing_0D, nothing_0D, nothing_0D, nothing_0D[:, : 1 + network.num_actions])
    windows, order = _by_length(windows), network.token_order
    batch = batch_windows(windows, TILE * order.target_tokens, order, leaf.value_UD.device)
    item_TD, out_TD = _run(network, leaf, batch)
    places_E = np.argsort(np.concatenate([window.sequence.place[window.targets] for window in windows]))
    reads_E, targets_E = batch.reads_E[places_E], batch.targets_E[places_E]
    return NewOutputs(out_TD[reads_E], out_TD[targets_E], item_TD[targets_E], network.seen(batch)[places_E])


def encode_replay(network: Network, leaf: Leaf, sequences: Sequence[EncodedSequence]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [P, D] for every event with an action of past sequences, the rows [P] they are to find, the masks [P].

    An item without a row cannot be found.
    """
    order = network.token_order
    windows = _by_length([_past_window(sequence, order) for sequence in sequences])
    batch = batch_windows(windows, 0, order, leaf.value_UD.device)
    _, out_TD = _run(network, leaf, batch)
    reads, rows, actions = [], [], []
    for window, bos in zip(windows, batch.layout.offsets.tolist(), strict=False):
        events = np.flatnonzero((window.sequence.actions != 0) & (window.sequence.rows > 0))
        reads.append(bos + window.reads(events, order))
        rows.append(window.sequence.rows[events])
        actions.append(window.sequence.actions[events])
    reads_P, rows_P, actions_P = (
        torch.from_numpy(np.concatenate(columns)).to(leaf.value_UD.device) for columns in (reads, rows, actions)
    )
    return out_TD[reads_P], rows_P, actions_P


def pad_to_tile(x: Tensor) -> Tensor:
    """Rows of zeros added up to a multiple of the tile, so that no row's product depends on how many there are."""
    return torch.nn.functional.pad(x, (0, 0) * (x.dim() - 1) + (0, -len(x) % TILE))


def rows_of(windows: Sequence[Window], sequences: Sequence[EncodedSequence]) -> Integers:
    """All rows that windows and past sequences read, row 0 (which pads) among them."""
    parts = [window.sequence.rows[: window.end] for window in windows]
    return np.concatenate([np.zeros(1, np.int64), *parts, *(sequence.rows for sequence in sequences)])


def _past_window(sequence: EncodedSequence, order: TokenOrder) -> Window:
    count = len(sequence.rows)
    return Window(sequence, count, padded(1 + order.tokens_per_event * count), np.zeros(0, np.int64))


def _by_length(windows: Sequence[Window]) -> list[Window]:
    """Windows of one length next to each other: they are worked on together."""
    return sorted(windows, key=lambda window: window.length)


def _run(network: Network, leaf: Leaf, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    device = leaf.value_UD.device
    words_SM = leaf.contents.words(batch.unknown_keys_S)
    item_TD = network.embed(leaf.value_UD[leaf.place(batch.rows_T)], batch, words_SM)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        out_TD: Tensor = network(item_TD, batch)
    return item_TD, out_TD.float()
