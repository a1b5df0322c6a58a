import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.encoder import EncoderSettings
from model.flops import forward_flops, seen_pairs, training_flops
from model.hstu import HSTU
from model.layout import sequence_layout
from tests.model.naive_hstu import NaiveSequence, naive_stack


def test_the_formula_is_what_torch_counts_where_nothing_is_hidden() -> None:
    """A utilisation from a wrong count compares with nobody's."""
    settings = EncoderSettings(dim=24, num_layers=3, num_heads=2, key_dim=5, value_dim=7, window=40, dropout=0)
    zeros = np.zeros(32, np.int64)
    layout = sequence_layout(np.array([0, 32]), zeros, zeros, num_prefix=np.array([32]))
    sequence = NaiveSequence(seconds=[0] * 32, query_seconds=[0] * 32, num_history=32, target_ends=[], num_prefix=32)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        naive_stack(HSTU(settings), settings, torch.zeros(32, 24), sequence)
    assert seen_pairs(layout) == 32 * 32
    assert counted.get_total_flops() == forward_flops(settings, layout)


def test_causal_histories_count_the_keys_that_are_seen_alone() -> None:
    """Half the work of attention would be claimed that nobody has to do."""
    zeros, settings = np.zeros(10, np.int64), EncoderSettings(dim=8, num_layers=1, key_dim=4, value_dim=4)
    layout = sequence_layout(np.array([0, 4, 10]), zeros, zeros)
    assert seen_pairs(layout) == 10 + 21
    assert forward_flops(settings, layout) == 10 * (2 * 8 * 16 + 2 * 4 * 8) + 31 * 16
    assert training_flops(settings, layout) == 3 * forward_flops(settings, layout)
