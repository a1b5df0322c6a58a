"""`headwater bench candidates`: many candidates of one user, scored one by one, in microbatches, and from a cache.

Shapes: n history tokens, m candidates, D width.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deploy.bench.peak_memory import peak_memory_bytes, reset_peak_memory
from model.encoder import EncoderSettings
from model.history_cache import HistoryCache
from model.hstu import HSTU
from model.layout import next_seconds, sequence_layout

Say = Callable[[str], None]
HISTORY = 1_024
CANDIDATES = 1_024
MICROBATCH = 128
MANY_CANDIDATES = 16_384
ONE_BY_ONE = 8
"""Candidates that are scored one by one in each round; the time of all follows from theirs."""
NOW = 100_000_000
SETTINGS = EncoderSettings(dim=64, num_layers=2, num_heads=2, key_dim=32, value_dim=32, window=HISTORY + 1, dropout=0)
"""The width, layers and heads that the product has by default."""


@dataclass(frozen=True, slots=True)
class CandidateCase:
    """A random encoder, a history and candidates."""

    encoder: HSTU
    history_nD: Tensor
    seconds_n: Tensor
    candidates_mD: Tensor

    @classmethod
    def random(cls, num_candidates: int) -> "CandidateCase":
        """Weights large enough that candidates differ."""
        generator = torch.Generator().manual_seed(0)
        encoder = HSTU(SETTINGS).eval()
        for parameter in encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        seconds = np.sort(np.random.default_rng(0).integers(0, NOW, HISTORY))
        history_nD = torch.randn(HISTORY, SETTINGS.dim, generator=generator)
        candidates_mD = torch.randn(num_candidates, SETTINGS.dim, generator=generator)
        return cls(encoder, history_nD, torch.from_numpy(seconds), candidates_mD)

    @torch.inference_mode()
    def encoded(self, candidates_mD: Tensor) -> Tensor:
        """Candidates encoded together with the whole history, nothing kept."""
        count, total = HISTORY, HISTORY + len(candidates_mD)
        seconds = np.r_[self.seconds_n.numpy(), np.full(len(candidates_mD), NOW)]
        queries = np.r_[next_seconds(np.array([0, count]), seconds[:count], np.array([NOW])), seconds[count:]]
        layout = sequence_layout(np.array([0, total]), seconds, queries, num_targets=np.array([len(candidates_mD)]))
        out_TD: Tensor = self.encoder(torch.cat([self.history_nD, candidates_mD]), layout)
        return out_TD[count:]

    def cache(self) -> HistoryCache:
        """The history, taken in."""
        cache, seconds = HistoryCache(self.encoder), self.seconds_n.numpy()
        queries = next_seconds(np.array([0, HISTORY]), seconds, np.array([NOW]))
        cache.extend(self.encoder, 0, self.history_nD, self.seconds_n, torch.from_numpy(queries))
        return cache

    def score(self, cache: HistoryCache, candidates_mD: Tensor) -> Tensor:
        """Candidates from the cache, in microbatches."""
        return cache.score(self.encoder, candidates_mD, NOW, MICROBATCH)

    def microbatches(self) -> Iterator[Tensor]:
        """The candidates in portions."""
        yield from torch.split(self.candidates_mD, MICROBATCH)


def run_candidates_bench(rounds: int, say: Say) -> dict[str, Any]:
    """Times in turns, on one thread; how far outputs differ; the peak memory of many candidates."""
    torch.set_num_threads(1)
    case = CandidateCase.random(CANDIDATES)
    warm = case.cache()
    ways: dict[str, Callable[[], Tensor]] = {
        "one by one": lambda: torch.cat([case.encoded(x_D[None]) for x_D in case.candidates_mD[:ONE_BY_ONE]]),
        "encoded again for each microbatch": lambda: torch.cat([case.encoded(x_mD) for x_mD in case.microbatches()]),
        "microbatches, cold cache": lambda: case.score(case.cache(), case.candidates_mD),
        "microbatches, warm cache": lambda: case.score(warm, case.candidates_mD),
    }
    seconds, outputs = _timed(ways, rounds)
    seconds["one by one"] *= CANDIDATES / ONE_BY_ONE
    cold, kept = seconds["microbatches, cold cache"], seconds["microbatches, warm cache"]
    figures = {
        "rounds": rounds,
        "seconds": seconds,
        "cold_over_one_by_one": seconds["one by one"] / cold,
        "warm_over_one_by_one": seconds["one by one"] / kept,
        "warm_over_encoded_again": seconds["encoded again for each microbatch"] / kept,
        "largest_difference": _difference(case, warm, outputs),
        "peak_bytes": {str(count): _peak(count) for count in (CANDIDATES, MANY_CANDIDATES)},
    }
    for name, value in figures.items():
        say(f"{name}: {value}")
    return figures


def _timed(ways: dict[str, Callable[[], Tensor]], rounds: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    outputs: dict[str, Tensor] = {}
    for number in range(rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            outputs[name] = run()
            if number:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}, outputs


def _difference(case: CandidateCase, warm: HistoryCache, outputs: dict[str, Tensor]) -> float:
    """From one by one: the first candidates, then all in another order with each one twice."""
    order = torch.randperm(CANDIDATES, generator=torch.Generator().manual_seed(1)).repeat(2)
    shuffled_mD = case.score(warm, case.candidates_mD[order])
    kept_mD, alone_mD = outputs["microbatches, warm cache"], outputs["one by one"]
    again_mD = outputs["encoded again for each microbatch"]
    pairs = ((kept_mD[:ONE_BY_ONE], alone_mD), (shuffled_mD, kept_mD[order]), (kept_mD, again_mD))
    return max(float((left - right).abs().max()) for left, right in pairs)


def _peak(count: int) -> int:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_bytes, (count,))


def _peak_bytes(count: int) -> int:
    """Peak memory over what was held before the first microbatch, inputs and the cache not counted."""
    torch.set_num_threads(1)
    case = CandidateCase.random(count)
    cache = case.cache()
    case.score(cache, case.candidates_mD[:MICROBATCH])
    before = reset_peak_memory()
    for _ in cache.scores(case.encoder, case.microbatches(), NOW):
        pass
    return peak_memory_bytes() - before
