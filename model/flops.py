"""Floating-point operations of the HSTU stack by formula, for utilisation: what has to be done, however it is done.

Shapes: T tokens.
"""

import numpy as np

from model.encoder import EncoderSettings
from model.layout import Layout


def forward_flops(settings: EncoderSettings, layout: Layout) -> int:
    """Of one forward pass: two for each multiply-add of matrix products; nothing else is counted.

    For each token and layer 2 D (2 h d + 2 h e) of the projections and 2 h e D of the output; for each pair of a token
    and a key that it sees 2 h d + 2 h e. Keys that are hidden, though computed, count nothing.
    """
    key, value = settings.num_heads * settings.key_dim, settings.num_heads * settings.value_dim
    tokens = 2 * settings.dim * (2 * key + 2 * value) + 2 * value * settings.dim
    return settings.num_layers * (layout.num_tokens * tokens + seen_pairs(layout) * 2 * (key + value))


def training_flops(settings: EncoderSettings, layout: Layout) -> int:
    """Of forward and backward: three times the forward pass; scores computed a second time count nothing."""
    return 3 * forward_flops(settings, layout)


def seen_pairs(layout: Layout) -> int:
    """Pairs of a token and a key that it sees, itself included.

    >>> from model.layout import sequence_layout
    >>> zeros = np.zeros(6, np.int64)
    >>> seen_pairs(sequence_layout(np.array([0, 6]), zeros, zeros, num_targets=np.array([2])))
    20
    """
    index_T = np.arange(layout.num_tokens) - np.repeat(layout.offsets[:-1], np.diff(layout.offsets))
    targets = int(np.sum(index_T >= np.repeat(layout.num_history, np.diff(layout.offsets))))
    return int(np.sum(layout.end_T - layout.first_T)) + targets
