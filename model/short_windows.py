"""Windows whose context is shortened by chance before they are learned from; what is scored sees all of it."""

import numpy as np

from model.stochastic_length import StochasticLength
from model.token_order import TokenOrder
from model.windows import Window, padded


def shortened(window: Window, lengths: StochasticLength, draws: np.random.Generator, order: TokenOrder) -> Window:
    """A window of the same targets, of whose events before the first target only some stay; so does what is known."""
    sequence, first = window.sequence, int(window.targets[0])
    events = np.flatnonzero(~sequence.is_feature[:first])
    chosen = lengths.choose(sequence.seconds[events], draws)
    if len(chosen) == len(events):
        return window
    told = np.flatnonzero(sequence.is_feature[:first])
    kept = np.r_[np.sort(np.r_[told, events[chosen]]), first : window.end]
    length = padded(1 + order.tokens_per_event * len(kept))
    return Window(sequence.pick(kept), len(kept), length, np.searchsorted(kept, window.targets))
