import numpy as np
import pytest
import torch
from torch import Tensor

from model.encoder import EncoderSettings
from model.hstu import HSTU
from model.layout import Layout, next_seconds, sequence_layout
from tests.model.naive_hstu import NaiveSequence, naive_stack

WINDOW = 140
LENGTHS = (1, 2, 33, 140, 140, 129)
"""Histories of one token, of the whole window, twice the same and next to each other, and one past a block's end."""


def settings_factory(**changes: object) -> EncoderSettings:
    defaults = {"dim": 12, "num_heads": 2, "key_dim": 6, "value_dim": 6, "window": WINDOW, "dropout": 0}
    return EncoderSettings(**{**defaults, **changes})  # type: ignore[arg-type]  # a mapping of settings by name


def stack_factory(settings: EncoderSettings, dtype: torch.dtype) -> HSTU:
    stack = HSTU(settings).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return stack.to(dtype)


def sequences_factory(
    lengths: tuple[int, ...] = LENGTHS, *, targets: bool = False, prefix: bool = False, window: int | None = None
) -> list[NaiveSequence]:
    rng = np.random.default_rng(3)
    sequences = []
    for number, length in enumerate(lengths):
        num_targets = number % 4 if targets else 0
        seconds = np.sort(rng.integers(0, 10 ** int(rng.integers(1, 10)), length + 1)).tolist()
        now = rng.integers(seconds[-1], seconds[-1] + 10_000, num_targets).tolist()
        sequences.append(
            NaiveSequence(
                seconds=seconds[:-1] + now,
                query_seconds=seconds[1:] + now,
                num_history=length,
                target_ends=rng.integers(0, length + 1, num_targets).tolist(),
                num_prefix=min(number, length) if prefix else 0,
                local_window=window,
            )
        )
    return sequences


def layout_of(sequences: list[NaiveSequence]) -> Layout:
    return sequence_layout(
        np.cumsum([0, *(len(sequence.seconds) for sequence in sequences)]),
        np.concatenate([np.array(sequence.seconds, np.int64) for sequence in sequences]),
        np.concatenate([np.array(sequence.query_seconds, np.int64) for sequence in sequences]),
        num_targets=np.array([len(sequence.target_ends) for sequence in sequences]),
        target_ends=np.concatenate([np.array(sequence.target_ends, np.int64) for sequence in sequences]),
        num_prefix=np.array([sequence.num_prefix for sequence in sequences]),
        local_window=sequences[0].local_window,
    )


def outputs_and_gradients(
    stack: HSTU, settings: EncoderSettings, sequences: list[NaiveSequence], *, naive: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    dtype = next(stack.parameters()).dtype
    count = sum(len(sequence.seconds) for sequence in sequences)
    generator = torch.Generator().manual_seed(2)
    x_TD, weight_TD = torch.randn(2, count, settings.dim, dtype=torch.float64, generator=generator).to(dtype)
    x_TD.requires_grad_()
    stack.zero_grad()
    if naive:
        parts = x_TD.split([len(sequence.seconds) for sequence in sequences])
        pairs = zip(parts, sequences, strict=True)
        out_TD = torch.cat([naive_stack(stack, settings, part, sequence) for part, sequence in pairs])
    else:
        out_TD = stack(x_TD, layout_of(sequences))
    (out_TD * weight_TD).sum().backward()
    gradients = {name: parameter.grad for name, parameter in stack.named_parameters()} | {"x": x_TD.grad}
    return out_TD.detach(), {name: grad.clone() for name, grad in gradients.items() if grad is not None}


CASES = {
    "one head, one layer": (settings_factory(num_heads=1, num_layers=1), sequences_factory()),
    "four heads, other widths": (settings_factory(num_heads=4, key_dim=3, value_dim=5), sequences_factory()),
    "four layers": (settings_factory(num_layers=4), sequences_factory((5, 140))),
    "no bias": (settings_factory(relative_bias=False), sequences_factory()),
    "targets": (settings_factory(key_dim=4, num_layers=3), sequences_factory(targets=True)),
    "targets, no bias": (settings_factory(relative_bias=False), sequences_factory(targets=True)),
    "prefix": (settings_factory(), sequences_factory(prefix=True)),
    "local window": (settings_factory(), sequences_factory(window=5)),
    "all": (settings_factory(num_heads=4, value_dim=2), sequences_factory(targets=True, prefix=True, window=40)),
    "softmax": (settings_factory(attention="softmax", key_dim=3), sequences_factory(targets=True)),
    "softmax, no bias": (settings_factory(attention="softmax", relative_bias=False), sequences_factory(window=9)),
}


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_those_of_the_formulas_written_a_second_time(case: str) -> None:
    """A swapped split, a softmax, a 1/sqrt(d), another divisor or another mask would train, only worse."""
    settings, sequences = CASES[case]
    wanted, wanted_gradients = outputs_and_gradients(
        stack_factory(settings, torch.float64), settings, sequences, naive=True
    )
    for dtype, output_error, gradient_error in ((torch.float64, 1e-12, 1e-12), (torch.float32, 1e-5, 1e-4)):
        out, gradients = outputs_and_gradients(stack_factory(settings, dtype), settings, sequences, naive=False)
        torch.testing.assert_close(out.double(), wanted, rtol=0, atol=output_error)
        assert gradients.keys() == wanted_gradients.keys()
        for name, gradient in gradients.items():
            scale = max(1.0, float(wanted_gradients[name].abs().max()))
            error = float((gradient.double() - wanted_gradients[name]).abs().max()) / scale
            assert error <= gradient_error, (name, dtype)


def test_a_target_sees_neither_other_targets_nor_history_after_its_last_token() -> None:
    """A target that saw its own group's history tokens would be told the answer."""
    settings = settings_factory()
    stack, sequences = stack_factory(settings, torch.float32), sequences_factory((6,), targets=True)
    sequences = [NaiveSequence(seconds=[1] * 8, query_seconds=[2] * 8, num_history=6, target_ends=[3, 6])]
    x_TD = torch.randn(8, settings.dim, generator=torch.Generator().manual_seed(3))
    before = stack(x_TD, layout_of(sequences))
    changed = x_TD.clone()
    changed[3:6] += 1  # history after the first target's end
    changed[7] -= 1  # the other target
    after = stack(changed, layout_of(sequences))
    assert torch.equal(before[6], after[6])
    assert torch.equal(before[:3], after[:3])
    assert not torch.allclose(before[7], after[7])


def test_the_query_time_reaches_the_prediction() -> None:
    """Without it the time half of the bias, which carries most of the gain, would see nothing."""
    stack, offsets, seconds = stack_factory(settings_factory(), torch.float64), np.array([0, 5]), np.arange(5) * 1_000
    x_TD = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    now, later = (
        stack(x_TD, sequence_layout(offsets, seconds, next_seconds(offsets, seconds, np.array([last]))))
        for last in (5_000, 1_000_000)
    )
    assert torch.equal(now[:4], later[:4])
    assert not torch.allclose(now[4], later[4])


@pytest.mark.parametrize("length", [1, 5, 31, 32, 127, 128, 139])
def test_appending_an_event_changes_only_the_last_history_row(length: int) -> None:
    """A cache could not be kept from one event to the next: every row would have to be encoded again."""
    stack, rng = stack_factory(settings_factory(num_layers=3), torch.float64), np.random.default_rng(5)
    seconds = np.sort(rng.integers(0, 10**7, length + 1))
    x_TD = torch.randn(length + 1, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    outputs = []
    for count in (length, length + 1):
        offsets, now = np.array([0, count]), np.array([10**8])
        layout = sequence_layout(offsets, seconds[:count], next_seconds(offsets, seconds[:count], now))
        outputs.append(stack(x_TD[:count], layout))
    torch.testing.assert_close(outputs[0][:-1], outputs[1][: length - 1], rtol=0, atol=1e-14)
    assert not torch.allclose(outputs[0][-1], outputs[1][length - 1], atol=1e-6)


@pytest.mark.parametrize("attention", ["pointwise", "softmax"])
@pytest.mark.parametrize("seed", range(4))
def test_an_output_has_the_same_bits_whatever_else_is_in_its_batch_and_in_whatever_order(
    seed: int, attention: str
) -> None:
    """A rank could flip with the company an event happens to be in, and no prefix of a run could be repeated."""
    settings = settings_factory(dim=64, key_dim=32, value_dim=32, attention=attention)
    stack, rng = HSTU(settings), np.random.default_rng(seed)
    stack.reset(torch.Generator().manual_seed(6))
    lengths = (1, 1, 2, 3, 31, 64, 64, 64, 64, 97, 128, 129, 140)
    sequences = sequences_factory(lengths, targets=True)
    x = [torch.randn(len(s.seconds), 64, generator=torch.Generator().manual_seed(7)) for s in sequences]
    alone = [stack(rows, layout_of([sequence])) for rows, sequence in zip(x, sequences, strict=True)]
    order = rng.permutation(len(sequences))[: int(rng.integers(2, len(sequences) + 1))].tolist()
    together = stack(torch.cat([x[i] for i in order]), layout_of([sequences[i] for i in order]))
    for i, part in zip(order, together.split([len(x[i]) for i in order]), strict=True):
        assert torch.equal(part, alone[i])


def test_a_history_longer_than_the_window_is_refused() -> None:
    """Distances without a bias of their own would be read from beyond the table."""
    stack, offsets = HSTU(settings_factory(window=4)), np.array([0, 6])
    with pytest.raises(ValueError, match="at most window = 4, got 5"):
        stack(torch.zeros(6, 12), sequence_layout(offsets, np.arange(6), np.arange(6)))
