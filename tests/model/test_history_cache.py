import numpy as np
import pytest
import torch
from torch import Tensor

from model.encoder import EncoderSettings
from model.history_cache import HistoryCache
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


def taken_in(stack: HSTU, x_nD: Tensor, seconds_n: Tensor, *, now: int = NOW, start: int = 0) -> HistoryCache:
    return extended(HistoryCache(stack), stack, x_nD, seconds_n, now=now, start=start)


def extended(
    cache: HistoryCache, stack: HSTU, x_nD: Tensor, seconds_n: Tensor, *, now: int = NOW, start: int = 0
) -> HistoryCache:
    queries_n = torch.cat([seconds_n[1:], torch.tensor([now])])
    cache.extend(stack, start, x_nD[start:], seconds_n[start:], queries_n[start:])
    return cache


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("microbatch", [3, 64])
def test_candidates_in_microbatches_are_as_one_by_one_in_any_order_and_twice(shape: str, microbatch: int) -> None:
    """A candidate's score would hang on which other candidates were asked about."""
    stack, (x_nD, seconds_n) = stack_factory(SHAPES[shape]), history_factory(50)
    candidates_mD = torch.randn(8, 12, generator=torch.Generator().manual_seed(9))
    wanted, last = one_by_one(stack, x_nD, seconds_n, candidates_mD)
    cache = taken_in(stack, x_nD[:-1], seconds_n[:-1], now=int(seconds_n[-1]))
    read = cache.extend(stack, 49, x_nD[-1:], seconds_n[-1:], torch.tensor([NOW]))
    torch.testing.assert_close(read, last, rtol=0, atol=1e-5)
    order = torch.tensor([7, 0, 0, 3, 5, 1, 2, 6, 4, 7])
    scores = cache.score(stack, candidates_mD[order], NOW, microbatch)
    torch.testing.assert_close(scores, wanted[order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [[50], [1, 1, 1, 47], [20, 30], [49, 1]])
def test_a_cache_that_grew_is_one_that_was_made_at_once(steps: list[int]) -> None:
    """The last row, which saw the time of a request, would stay what it was when an event follows."""
    stack, (x_nD, seconds_n) = stack_factory(SHAPES["bias"]), history_factory(50)
    candidates_mD = torch.randn(2, 12, generator=torch.Generator().manual_seed(9))
    cache = HistoryCache(stack)
    for total in np.cumsum(steps).tolist():
        extended(cache, stack, x_nD[:total], seconds_n[:total], now=NOW + 12_345, start=max(0, cache.num_tokens - 1))
    wanted, _ = one_by_one(stack, x_nD, seconds_n, candidates_mD)
    extended(cache, stack, x_nD, seconds_n, start=49)
    torch.testing.assert_close(cache.score(stack, candidates_mD, NOW), wanted, rtol=0, atol=1e-5)


def test_what_is_put_behind_fewer_tokens_replaces_the_others() -> None:
    """An event that changed would go on being seen, behind or beside what it became."""
    stack, (x_nD, seconds_n) = stack_factory(SHAPES["bias"]), history_factory(50)
    candidates_mD = torch.randn(2, 12, generator=torch.Generator().manual_seed(9))
    cache = taken_in(stack, x_nD.flip(0), seconds_n)
    wanted, _ = one_by_one(stack, x_nD[:30], seconds_n[:30], candidates_mD)
    extended(cache, stack, x_nD[:30], seconds_n[:30])
    assert cache.num_tokens == 30
    torch.testing.assert_close(cache.score(stack, candidates_mD, NOW), wanted, rtol=0, atol=1e-5)


def test_a_cache_takes_what_its_history_needs() -> None:
    """Of ten thousand users most have a short history: room for the whole window would be most of the memory."""
    stack, (x_nD, seconds_n) = stack_factory(SHAPES["bias"]), history_factory(65)
    a_token = 3 * 2 * (4 + 7) * 4
    cache = HistoryCache(stack)
    assert cache.num_bytes == 0
    for total, tiles in ((1, 1), (32, 1), (33, 2), (65, 3)):
        extended(cache, stack, x_nD[:total], seconds_n[:total])
        assert cache.num_bytes == tiles * 32 * a_token + total * 8


def test_what_cannot_be_asked_is_refused() -> None:
    """An empty history would give a vector of nothing, and times would go to the wrong tokens."""
    stack, (x_nD, seconds_n) = stack_factory(SHAPES["bias"]), history_factory(4)
    cache = HistoryCache(stack)
    with pytest.raises(ValueError, match="must have a token"):
        cache.score(stack, x_nD, NOW)
    with pytest.raises(ValueError, match="4 tokens behind 0, 3 and 4 times"):
        cache.extend(stack, 0, x_nD, seconds_n[:3], seconds_n)
    with pytest.raises(ValueError, match="behind 0 others at most, got 4 tokens behind 1"):
        cache.extend(stack, 1, x_nD, seconds_n, seconds_n)
    with pytest.raises(ValueError, match="1 to 200 tokens, one of them new, got 0"):
        cache.extend(stack, 0, x_nD[:0], seconds_n[:0], seconds_n[:0])
    long = torch.zeros(WINDOW + 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="got 201"):
        cache.extend(stack, 0, torch.zeros(WINDOW + 1, 12), long, long)
