import math

import torch

from model.bias import RelativeBias, time_buckets


def test_buckets_follow_the_float32_formula_over_the_whole_range() -> None:
    """A bucket off by one between training and serving shifts every time bias."""
    seconds = [*range(5_000), 10**6, 10**9, 10**12, -7, -(10**9)]
    expected = []
    for value in seconds:
        log = torch.tensor(max(abs(value), 1), dtype=torch.int64).to(torch.float32).log()
        expected.append(min(max(math.floor(float(log / 0.301)), 0), 128))
    assert time_buckets(torch.tensor(seconds)).tolist() == expected


def test_bias_adds_the_position_and_the_time_table() -> None:
    """Swapped tables would go unnoticed in training."""
    bias = RelativeBias(4)
    with torch.no_grad():
        bias.position.copy_(torch.arange(5) * 10.0)
        bias.time.copy_(torch.arange(129) * 1.0)
    assert bias(torch.tensor([[[3]]]), torch.tensor([[[7]]])).item() == 37.0
    assert bias.self_bias().item() == 0.0
