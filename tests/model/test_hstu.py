import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.hstu import HSTU, HSTULayer
from model.settings import ModelSettings
from model.windows import Geometry, geometry

SETTINGS = ModelSettings(dim=8, num_heads=2, num_layers=2, window=32)
TIMES = np.array([[0, 10, 10, 500, 90_000, 90_001], [5, 6, 7, 8, 9, 400_000_000]])
QUERIES = np.array([[10, 10, 500, 90_000, 90_001, 90_002, 500, 90_007], [6, 7, 8, 9, 10, 400_000_000, 7, 8]])
LAST = np.array([[2, 5], [0, 1]])


def random_stack() -> HSTU:
    stack = HSTU(SETTINGS).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return stack


def double_geometry() -> Geometry:
    place = geometry(TIMES, QUERIES, LAST, torch.device("cpu"))
    return Geometry(place.distance_BRL, place.bucket_BRL, place.allowed_BRL.double())


def layer_by_formula(layer: HSTULayer, x: Tensor, times: list[int], queries: list[int], last: list[int]) -> Tensor:
    """HSTU.md, section 1, one number at a time; the rows after the history are targets that see up to `last`."""
    num_history, dim, size = len(times), x.shape[1], x.shape[1] // layer.num_heads

    def normed(row: Tensor) -> Tensor:
        return (row - row.mean()) / (row.var(unbiased=False) + 1e-6).sqrt()

    def silu(value: Tensor) -> Tensor:
        return value / (1 + torch.exp(-value))

    z = torch.stack([silu(normed(row) @ layer.uvqk) for row in x])
    u, v, q, k = (z[:, part * dim : (part + 1) * dim] for part in range(4))
    rows = []
    for i in range(len(x)):
        is_target = i >= num_history
        end = last[i - num_history] if is_target else i
        index = end + 1 if is_target else i
        attended = torch.zeros(dim, dtype=x.dtype)
        for j in [*range(end + 1), *([i] if is_target else [])]:
            own = j >= num_history
            elapsed = 0 if own else abs(queries[i] - times[j])
            bucket = min(max(math.floor(math.log(max(elapsed, 1)) / 0.301), 0), 128)
            distance = 0 if own else index - j
            for h in range(layer.num_heads):
                cut = slice(h * size, (h + 1) * size)
                score = q[i, cut] @ k[j, cut] + layer.bias.position[distance] + layer.bias.time[bucket]
                attended[cut] += silu(score) / layer.window * v[j, cut]
        rows.append(x[i] + layer.output.weight @ (u[i] * normed(attended)) + layer.output.bias)
    return torch.stack(rows)


def test_stack_equals_the_published_formulas_computed_one_number_at_a_time() -> None:
    """A swapped split, a softmax, a 1/sqrt(d), another divisor or another mask would train, only worse."""
    stack = random_stack()
    x_BRD = torch.randn(2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    out = stack(x_BRD, double_geometry())
    for b in range(2):
        row = x_BRD[b]
        for layer in stack.layers:
            assert isinstance(layer, HSTULayer)
            row = layer_by_formula(layer, row, TIMES[b].tolist(), QUERIES[b].tolist(), LAST[b].tolist())
        torch.testing.assert_close(out[b], row / row.norm(dim=-1, keepdim=True).clamp(min=1e-6), rtol=0, atol=1e-12)


def test_a_target_sees_neither_other_targets_nor_history_after_its_last_token() -> None:
    """A target that saw its own group's history tokens would be told the answer."""
    stack = random_stack()
    x_BRD = torch.randn(2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    before = stack(x_BRD, double_geometry())
    changed = x_BRD.clone()
    changed[0, 3:6] += 1  # history after LAST[0, 0]
    changed[0, 7] -= 1  # the other target
    after = stack(changed, double_geometry())
    assert torch.equal(before[0, 6], after[0, 6])
    assert torch.equal(before[0, :3], after[0, :3])
    assert not torch.allclose(before[0, 7], after[0, 7])


def test_the_query_time_reaches_the_prediction() -> None:
    """Without it the time half of the bias, which carries most of the gain, would see nothing."""
    stack = random_stack()
    x_BRD = torch.randn(2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    later = QUERIES.copy()
    later[:, 5] += 1_000_000
    place = geometry(TIMES, later, LAST, torch.device("cpu"))
    moved = stack(x_BRD, Geometry(place.distance_BRL, place.bucket_BRL, place.allowed_BRL.double()))
    before = stack(x_BRD, double_geometry())
    assert not torch.allclose(before[0, 5], moved[0, 5])
    assert torch.equal(before[0, :5], moved[0, :5])


@pytest.mark.parametrize("num_windows", [1, 2, 3, 7, 16, 33])
def test_a_rows_output_is_the_same_bits_whatever_else_is_in_its_batch(num_windows: int) -> None:
    """A rank could flip with the company an event happens to be in, and no prefix of a run could be repeated."""
    settings = ModelSettings()
    stack = HSTU(settings)
    stack.reset(torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(6)
    length, num_targets = 96, 32
    x_BRD = torch.randn(33, length + num_targets, settings.dim, generator=generator)
    times = np.sort(np.random.default_rng(7).integers(0, 10**6, (33, length)))
    queries = np.concatenate([times, times[:, -num_targets:] + 5], 1)
    last = np.tile(np.arange(length - num_targets, length), (33, 1))
    every = stack(x_BRD, geometry(times, queries, last, torch.device("cpu")))
    some = slice(33 - num_windows, 33)
    part = stack(x_BRD[some], geometry(times[some], queries[some], last[some], torch.device("cpu")))
    assert torch.equal(every[some], part)
