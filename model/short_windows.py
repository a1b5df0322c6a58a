"""Windows whose context is shortened by chance before they are learned from; what is scored sees all of it."""

from dataclasses import replace

import numpy as np

from model.stochastic_length import StochasticLength
from model.token_order import TokenOrder
from model.windows import Window, padded


def shortened(window: Window, lengths: StochasticLength, draws: np.random.Generator, order: TokenOrder) -> Window:
    """A window of the same targets, of whose events before the first target only some stay."""
    sequence, first = window.sequence, int(window.targets[0])
    context = lengths.choose(sequence.seconds[window.start : first], draws)
    if len(context) == first - window.start:
        return window
    kept = np.r_[window.start + context, np.arange(first, window.end)]
    columns = {name: getattr(sequence, name)[kept] for name in ("rows", "seconds", "actions", "new", "place")}
    starts = np.searchsorted(kept, sequence.group_starts[kept])
    targets = np.searchsorted(kept, window.targets)
    length = padded(1 + order.tokens_per_event * len(kept))
    return Window(replace(sequence, **columns, group_starts=starts), 0, len(kept), length, targets)
