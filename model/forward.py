"""From windows to what the heads read, with item rows as one autograd leaf.

Shapes: B windows, L history tokens, T target tokens, R = L + T rows, E new events, P replayed targets, U gathered rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from model.layout import Integers
from model.network import Network
from model.settings import TILE
from model.windows import EncodedSequence, Window, WindowBatch, batch_windows, history_reads


@dataclass(frozen=True, slots=True)
class Leaf:
    """Rows of the item table that one step reads and may change."""

    rows_U: Tensor
    """Rows in rising order, each once."""
    value_UD: Tensor

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


def encode_new(network: Network, leaf: Leaf, windows: Sequence[Window]) -> NewOutputs:
    """Outputs for all targets of the windows; each window has room for 32 targets, whatever it holds."""
    queries, targets, items, places = [], [], [], []
    for batch in _batches(windows, TILE, leaf.value_UD.device):
        item_BRD, out_BRD = _run(network, leaf, batch)
        counts = [len(window.targets) for window in batch.windows]
        owner = np.repeat(np.arange(len(counts)), counts)
        index = np.concatenate([np.arange(count) for count in counts])
        queries.append(out_BRD[owner, batch.last_BT[owner, index]])
        targets.append(out_BRD[owner, batch.num_history + index])
        items.append(item_BRD[owner, batch.num_history + index])
        places += [window.sequence.place[window.targets] for window in batch.windows]
    order = np.argsort(np.concatenate(places))
    return NewOutputs(torch.cat(queries)[order], torch.cat(targets)[order], torch.cat(items)[order])


def encode_replay(network: Network, leaf: Leaf, sequences: Sequence[EncodedSequence]) -> tuple[Tensor, Tensor]:
    """Queries [P, D] for every action of past sequences and the rows [P] that they are to find."""
    device = leaf.value_UD.device
    queries, rows = [], []
    for batch in _batches([_past_window(sequence) for sequence in sequences], 0, device):
        _, out_BRD = _run(network, leaf, batch)
        for b, window in enumerate(batch.windows):
            events = np.flatnonzero(window.sequence.actions)
            queries.append(out_BRD[b, history_reads(window, events)])
            rows.append(window.sequence.rows[events])
    return torch.cat(queries), torch.from_numpy(np.concatenate(rows)).to(device)


def pad_to_tile(x: Tensor) -> Tensor:
    """Rows of zeros added up to a multiple of the tile, so that no row's product depends on how many there are."""
    return torch.nn.functional.pad(x, (0, 0, 0, -len(x) % TILE))


def rows_of(windows: Sequence[Window], sequences: Sequence[EncodedSequence]) -> Integers:
    """All rows that windows and past sequences read, row 0 (which pads) among them."""
    parts = [window.sequence.rows[window.start : window.end] for window in windows]
    return np.concatenate([np.zeros(1, np.int64), *parts, *(sequence.rows for sequence in sequences)])


def _past_window(sequence: EncodedSequence) -> Window:
    count = len(sequence.rows)
    return Window(sequence, 0, count, -(-(count + 1) // TILE) * TILE, np.zeros(0, np.int64))


def _batches(windows: Sequence[Window], num_targets: int, device: torch.device) -> Iterator[WindowBatch]:
    by_length = sorted(windows, key=lambda window: window.length)
    for _, same in groupby(by_length, key=lambda window: window.length):
        yield batch_windows(list(same), num_targets, device)


def _run(network: Network, leaf: Leaf, batch: WindowBatch) -> tuple[Tensor, Tensor]:
    device = leaf.value_UD.device
    item_BRD = network.embed(leaf.value_UD[leaf.place(batch.rows_BR)], batch)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        out_BRD: Tensor = network(item_BRD, batch)
    return item_BRD, out_BRD.float()
