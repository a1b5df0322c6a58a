"""What every encoder must be, whatever is inside; and SASRec and the Transformer against their formulas."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.encoder import EncoderSettings
from model.encoder_names import EncoderName
from model.layout import Layout, sequence_layout
from model.sasrec import SASRec
from model.transformer import Transformer
from tests.model.histories import NAMES, SHAPE, encoder_factory

LENGTHS = np.array([5, 1, 32, 5])


def layout_factory(lengths: np.ndarray = LENGTHS) -> Layout:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    seconds = np.concatenate([np.arange(length) ** 2 * 40 for length in lengths])
    return sequence_layout(offsets, seconds, seconds + 90)


def tokens_factory(seed: int = 0, dim: int = SHAPE.dim) -> Tensor:
    return torch.randn(int(LENGTHS.sum()), dim, generator=torch.Generator().manual_seed(seed))


def encode(name: EncoderName, x_TD: Tensor, layout: Layout) -> Tensor:
    out_TD: Tensor = encoder_factory(name).eval()(x_TD, layout)
    return out_TD.detach()


@pytest.mark.parametrize("name", NAMES)
def test_no_token_sees_a_later_one(name: EncoderName) -> None:
    """A model that sees what it is to predict has perfect figures in learning and none in service."""
    x_TD = tokens_factory()
    changed_TD = x_TD.clone()
    changed_TD[16:38] = tokens_factory(1)[16:38]
    before_TD, after_TD = (encode(name, tokens, layout_factory()) for tokens in (x_TD, changed_TD))
    assert torch.equal(before_TD[:16], after_TD[:16])
    assert torch.equal(before_TD[38:], after_TD[38:])
    assert not torch.isclose(before_TD[16:38], after_TD[16:38]).all(-1).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_is_encoded_alike_in_every_batch(name: EncoderName) -> None:
    """Scores would depend on who else asks."""
    whole_TD = encode(name, tokens_factory(), layout_factory())
    alone_TD = encode(name, tokens_factory()[6:38], layout_factory(LENGTHS[2:3]))
    assert torch.equal(whole_TD[6:38], alone_TD)
    order = [2, 0, 3, 1]
    offsets = layout_factory().offsets
    index = np.concatenate([np.arange(offsets[place], offsets[place + 1]) for place in order])
    moved_TD = encode(name, tokens_factory()[index], layout_factory(LENGTHS[order]))
    assert torch.equal(whole_TD[index], moved_TD)


@pytest.mark.parametrize("name", NAMES)
def test_what_leaves_an_encoder_has_length_one_and_follows_from_the_seed(name: EncoderName) -> None:
    """Cosines over a temperature are the scores of all of them."""
    out_TD = encode(name, tokens_factory(), layout_factory())
    torch.testing.assert_close(out_TD.norm(dim=-1), torch.ones(len(out_TD)))
    assert torch.equal(out_TD, encode(name, tokens_factory(), layout_factory()))


def test_every_ablation_computes_something_else() -> None:
    """A table of one model under six names."""
    outputs = [encode(name, tokens_factory(), layout_factory())[:5] for name in NAMES]
    for place, output in enumerate(outputs):
        assert not any(torch.allclose(output, other, atol=1e-4) for other in outputs[:place])


@pytest.mark.parametrize("name", NAMES)
def test_only_the_relative_bias_looks_at_times(name: EncoderName) -> None:
    """An ablation of the bias that still knows the time is none."""
    layout = layout_factory()
    later = sequence_layout(layout.offsets, layout.seconds_T, layout.query_seconds_T + 100_000)
    is_same = torch.equal(encode(name, tokens_factory(), layout), encode(name, tokens_factory(), later))
    assert is_same == (name not in ("hstu", "hstu-softmax"))


Weights = dict[str, Tensor]


def part(weights: Weights, name: str) -> Weights:
    """Of one part, by the names that they have within it."""
    return {key.removeprefix(name + "."): value for key, value in weights.items() if key.startswith(name + ".")}


def linear(weights: Weights, name: str, x_nD: Tensor) -> Tensor:
    return F.linear(x_nD, weights[f"{name}.weight"], weights[f"{name}.bias"])


def norm(weights: Weights, name: str, x_nD: Tensor, epsilon: float) -> Tensor:
    return F.layer_norm(x_nD, x_nD.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)


def naive_attention(weights: Weights, queries_nD: Tensor, keys_nD: Tensor) -> Tensor:
    """Of one sequence, by torch's own attention."""
    inputs = {"query": queries_nD, "key": keys_nD, "value": keys_nD}
    q_hnd, k_hnd, v_hne = (
        linear(weights, name, x_nD).view(len(x_nD), 2, -1).transpose(0, 1) for name, x_nD in inputs.items()
    )
    attended_hne = F.scaled_dot_product_attention(q_hnd, k_hnd, v_hne, is_causal=True)
    return linear(weights, "output", attended_hne.transpose(0, 1).flatten(1))


def naive_sasrec(weights: Weights, x_nD: Tensor) -> Tensor:
    for place in range(2):
        own = part(weights, f"blocks.{place}")
        queries_nD = norm(own, "attention_norm", x_nD, 1e-8)
        attended_nD = naive_attention(part(own, "attention"), queries_nD, x_nD)
        x_nD = norm(own, "feed_norm", queries_nD + attended_nD, 1e-8)
        x_nD = x_nD + linear(own, "outer", F.relu(linear(own, "inner", x_nD)))
    return F.normalize(x_nD, dim=-1)


def naive_transformer(weights: Weights, x_nD: Tensor) -> Tensor:
    for place in range(2):
        own = part(weights, f"blocks.{place}")
        normed_nD = norm(own, "attention_norm", x_nD, 1e-5)
        x_nD = x_nD + naive_attention(part(own, "attention"), normed_nD, normed_nD)
        x_nD = x_nD + linear(own, "outer", F.gelu(linear(own, "inner", norm(own, "feed_norm", x_nD, 1e-5))))
    return F.normalize(norm(weights, "norm", x_nD, 1e-5), dim=-1)


@pytest.mark.parametrize(("kind", "naive"), [(SASRec, naive_sasrec), (Transformer, naive_transformer)])
def test_what_hstu_is_held_against_is_its_formula(
    kind: type[SASRec | Transformer], naive: Callable[[Weights, Tensor], Tensor]
) -> None:
    """A weak opponent makes any model look good."""
    encoder = kind(EncoderSettings(dim=16, num_heads=2, key_dim=8, value_dim=8, dropout=0.0)).double()
    generator = torch.Generator().manual_seed(3)
    for weight in encoder.parameters():
        # Off the initial values, so that a bias of 0 or a scale of 1 is told from one that is left out.
        weight.data = 0.3 * torch.randn(weight.shape, dtype=weight.dtype, generator=generator)
    x_TD = tokens_factory().double()
    split = torch.split(x_TD, LENGTHS.tolist())
    naive_TD = torch.cat([naive(encoder.state_dict(), x_nD) for x_nD in split])
    torch.testing.assert_close(encoder(x_TD, layout_factory()), naive_TD, rtol=1e-10, atol=1e-12)
