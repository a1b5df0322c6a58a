"""Histories of a few users as one batch, and what is predicted from which token.

Shapes: B users, T tokens, P predictions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.corpus import Corpus
from model.layout import Integers, Layout, sequence_layout

_BUCKET = 16
"""Lengths are padded to multiples of it, so that most neighbours in a batch have one length."""

Choose = Callable[[Integers], Integers]
"""Indexes, rising, of the events that stay of a history with these times."""


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """Tokens of a batch and its predictions; the users stand in order of length."""

    items_T: Tensor
    """Item of each token; 0 for padding, which lies behind a history and is seen by nothing."""
    layout: Layout
    reads_P: Tensor
    """Token that each prediction is read from."""
    targets_P: Tensor
    """Item that is predicted there."""
    users_P: Integers
    """Whose prediction it is."""


def history_batch(
    corpus: Corpus,
    users: Integers,
    *,
    left_out: int,
    max_history: int,
    last_only: bool,
    device: torch.device,
    choose: Choose | None = None,
) -> HistoryBatch:
    """The newest `max_history` events before each user's last target; the time of a prediction is its target's.

    `left_out` events are taken off every user's end first; the last of those that stay is the last target. Every token
    predicts the next event, or the last one alone. With `choose`, those that it chooses are the history. Users need one
    event before their last target: see `usable_users`.
    """
    last_B = corpus.offsets[users + 1] - left_out - 1
    histories = _histories(corpus, np.maximum(last_B - max_history, corpus.offsets[users]), last_B, choose)
    lengths_B = np.array([len(history) for history in histories])
    order = np.argsort(lengths_B, kind="stable")
    users, last_B, lengths_B = users[order], last_B[order], lengths_B[order]
    kept_K = np.concatenate([histories[b] for b in order])
    ends_B = np.cumsum(lengths_B)
    following_K = np.roll(kept_K, -1)
    following_K[ends_B - 1] = last_B
    padded_B = np.minimum(-(-lengths_B // _BUCKET) * _BUCKET, max_history)
    offsets = np.concatenate([[0], np.cumsum(padded_B)])
    index_T = np.arange(offsets[-1]) - np.repeat(offsets[:-1], padded_B)
    places_T = np.repeat(ends_B - lengths_B, padded_B) + np.minimum(index_T, np.repeat(lengths_B - 1, padded_B))
    events_T, following_T = kept_K[places_T], following_K[places_T]
    is_event_T = index_T < np.repeat(lengths_B, padded_B)
    reads_P = offsets[:-1] + lengths_B - 1 if last_only else np.flatnonzero(is_event_T)
    return HistoryBatch(
        torch.from_numpy(corpus.items_T[events_T] * is_event_T).to(device),
        sequence_layout(offsets, corpus.seconds_T[events_T], corpus.seconds_T[following_T]),
        torch.from_numpy(reads_P).to(device),
        torch.from_numpy(corpus.items_T[following_T[reads_P]]).to(device),
        np.repeat(users, padded_B)[reads_P],
    )


def _histories(corpus: Corpus, first_B: Integers, last_B: Integers, choose: Choose | None) -> list[Integers]:
    """Events of the corpus that each history is."""
    histories = [np.arange(first, last) for first, last in zip(first_B.tolist(), last_B.tolist(), strict=True)]
    if choose is None:
        return histories
    return [history[choose(corpus.seconds_T[history])] for history in histories]


def usable_users(corpus: Corpus, left_out: int) -> Integers:
    """Users with a target and at least one event before it, once `left_out` events are taken off their end."""
    return np.flatnonzero(corpus.lengths >= left_out + 2)
