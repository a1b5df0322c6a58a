import numpy as np
import pytest
import torch
from torch import Tensor

from model.encoder import EncoderSettings
from model.history_cache import HistoryCache, HistoryCaches
from model.hstu import HSTU
from model.layout import next_seconds, sequence_layout

WINDOW = 200
NOW = 10**8 + 50
SHAPES = {
    "bias": EncoderSettings(dim=12, num_layers=3, num_heads=2, key_dim=4, value_dim=7, window=WINDOW, dropout=0),
    "no bias": EncoderSettings(dim=12, key_dim=5, value_dim=5, window=WINDOW, dropout=0, relative_bias=False),
    "softmax": EncoderSettings(dim=12, key_dim=5, value_dim=5, window=WINDOW, dropout=0, attention="softmax"),
}


def stack_factory(settings: EncoderSettings, seed: int = 1) -> HSTU:
    stack, generator = HSTU(settings), torch.Generator().manual_seed(seed)
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return stack.eval()


def history_factory(length: int) -> tuple[Tensor, Tensor]:
    seconds = torch.from_numpy(np.sort(np.random.default_rng(length).integers(0, 10**8, length)))
    return torch.randn(length, 12, generator=torch.Generator().manual_seed(length)), seconds


def one_by_one(stack: HSTU, x_nD: Tensor, seconds_n: Tensor, candidates_mD: Tensor) -> tuple[Tensor, Tensor]:
    """Each candidate as the only target of the whole history, encoded from nothing; and the last token."""
    count, rows, last = len(x_nD), [], torch.zeros(0)
    offsets = np.array([0, count + 1])
    seconds = np.r_[seconds_n.numpy(), NOW]
    queries = np.r_[next_seconds(np.array([0, count]), seconds[:-1], np.array([NOW])), NOW]
    layout = sequence_layout(offsets, seconds, queries, num_targets=np.array([1]))
    for candidate_D in candidates_mD:
        out = stack(torch.cat([x_nD, candidate_D.unsqueeze(0)]), layout).detach()
        rows.append(out[-1])
        last = out[-2]
    return torch.stack(rows), last


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("microbatch", [3, 64])
def test_candidates_in_microbatches_are_as_one_by_one_in_any_order_and_twice(shape: str, microbatch: int) -> None:
    """A candidate's score would hang on which other candidates were asked about."""
    stack, (x_nD, seconds_n) = stack_factory(SHAPES[shape]), history_factory(50)
    candidates_mD = torch.randn(8, 12, generator=torch.Generator().manual_seed(9))
    wanted, last = one_by_one(stack, x_nD, seconds_n, candidates_mD)
    cache = HistoryCache(stack, 1)
    cache.append(x_nD, seconds_n)
    torch.testing.assert_close(cache.read(NOW), last, rtol=0, atol=1e-5)
    order = torch.tensor([7, 0, 0, 3, 5, 1, 2, 6, 4, 7])
    torch.testing.assert_close(cache.score(candidates_mD[order], NOW, microbatch), wanted[order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [[50], [1, 1, 1, 47], [20, 30], [49, 1]])
def test_a_cache_that_grew_is_one_that_was_made_at_once(steps: list[int]) -> None:
    """The last row, which saw the time of a request, would stay what it was when an event follows."""
    stack, (x_nD, seconds_n) = stack_factory(SHAPES["bias"]), history_factory(50)
    candidates_mD = torch.randn(2, 12, generator=torch.Generator().manual_seed(9))
    cache = HistoryCache(stack, 1)
    for x_mD, seconds_m in zip(torch.split(x_nD, steps), torch.split(seconds_n, steps), strict=True):
        cache.append(x_mD, seconds_m)
        cache.score(candidates_mD, NOW + 12_345)
    wanted, _ = one_by_one(stack, x_nD, seconds_n, candidates_mD)
    torch.testing.assert_close(cache.score(candidates_mD, NOW), wanted, rtol=0, atol=1e-5)


def test_a_full_cache_forgets_a_quarter_at_once_and_encodes_the_rest_anew() -> None:
    """Rows that saw what is forgotten would go on telling of it, at positions that are no longer theirs."""
    stack, (x_nD, seconds_n) = stack_factory(SHAPES["bias"]), history_factory(WINDOW + 3)
    candidates_mD = torch.randn(2, 12, generator=torch.Generator().manual_seed(9))
    cache = HistoryCache(stack, 1)
    cache.append(x_nD[:WINDOW], seconds_n[:WINDOW])
    assert cache.num_tokens == WINDOW
    for i in range(WINDOW, WINDOW + 3):
        cache.append(x_nD[i : i + 1], seconds_n[i : i + 1])
    kept = WINDOW * 3 // 4 + 2
    assert cache.num_tokens == kept
    wanted, _ = one_by_one(stack, x_nD[-kept:], seconds_n[-kept:], candidates_mD)
    torch.testing.assert_close(cache.score(candidates_mD, NOW), wanted, rtol=0, atol=1e-5)


def test_other_weights_and_the_least_recent_user_make_a_cache_empty() -> None:
    """Keys of a former version would be read by queries of the next."""
    (x_nD, seconds_n), settings = history_factory(4), SHAPES["bias"]
    caches = HistoryCaches(stack_factory(settings), version=1, num_users=2)
    for user_id in ("a", "b"):
        caches.of(user_id).append(x_nD, seconds_n)
    assert caches.of("a").num_tokens == 4
    assert caches.of("c").num_tokens == 0
    assert caches.of("a").num_tokens == 4
    assert caches.of("b").num_tokens == 0
    caches.replace_weights(stack_factory(settings, seed=2), version=2)
    assert caches.of("a").num_tokens == 0
    assert caches.of("a").version == 2


def test_what_cannot_be_asked_is_refused() -> None:
    """An empty history would give a vector of nothing, and times would go to the wrong tokens."""
    cache, (x_nD, seconds_n) = HistoryCache(stack_factory(SHAPES["bias"]), 1), history_factory(4)
    with pytest.raises(ValueError, match="must have a token"):
        cache.score(x_nD, NOW)
    with pytest.raises(ValueError, match="4 tokens and 3 times"):
        cache.append(x_nD, seconds_n[:3])
    with pytest.raises(ValueError, match="num_users must be >= 1"):
        HistoryCaches(stack_factory(SHAPES["bias"]), version=1, num_users=0)
