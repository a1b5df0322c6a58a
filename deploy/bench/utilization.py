"""`headwater bench utilization`: the share of the machine's matrix product rate that training and scoring reach.

Shapes: T tokens, D width.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.encoder import EncoderSettings
from model.flops import forward_flops, training_flops
from model.hstu import HSTU
from model.layout import Layout, next_seconds, sequence_layout

Say = Callable[[str], None]
LENGTH = 512
BATCH = 8
SETTINGS = EncoderSettings(dim=256, num_layers=4, num_heads=4, key_dim=64, value_dim=64, window=LENGTH, dropout=0)
GOALS = {"training": 0.24, "scoring": 0.29}
"""What OneRec reports of GPUs."""
PRODUCT_SIZE = 2_048
"""Rows and columns of the square matrices whose product gives the rate."""
_YEAR_SECONDS = 365 * 86_400


def run_utilization_bench(rounds: int, num_threads: int, say: Say) -> dict[str, Any]:
    """Forward, backward and AdamW of the encoder, its forward alone, and a large product, in turns; medians."""
    torch.set_num_threads(num_threads)
    layout = _layout()
    encoder = HSTU(SETTINGS)
    encoder.reset(torch.Generator().manual_seed(0))
    x_TD = torch.randn(layout.num_tokens, SETTINGS.dim, generator=torch.Generator().manual_seed(1))
    left, right = torch.randn(2, PRODUCT_SIZE, PRODUCT_SIZE).unbind()
    ways: dict[str, Callable[[], object]] = {
        "training": _training_step(encoder, x_TD, layout),
        "scoring": torch.inference_mode()(lambda: encoder(x_TD, layout)),
        "product": lambda: left @ right,
    }
    seconds = _medians(ways, rounds)
    rate = 2 * PRODUCT_SIZE**3 / seconds["product"]
    flops = {"training": training_flops(SETTINGS, layout), "scoring": forward_flops(SETTINGS, layout)}
    shares = {name: flops[name] / seconds[name] / rate for name in flops}
    say(f"{num_threads} threads: products at {rate / 1e9:.0f} GFLOP/s")
    for name, share in shares.items():
        say(f"{name}: {flops[name] / 1e9:.1f} GFLOP in {seconds[name]:.3f} s, MFU {share:.1%} (goal {GOALS[name]:.0%})")
    return {
        "rounds": rounds,
        "num_threads": num_threads,
        "product_flops_per_second": rate,
        "seconds": seconds,
        "flops": flops,
        "utilization": shares,
    }


def _layout() -> Layout:
    seconds_bn = np.sort(np.random.default_rng(0).integers(0, _YEAR_SECONDS, (BATCH, LENGTH)), axis=1)
    offsets, seconds = np.arange(BATCH + 1) * LENGTH, seconds_bn.ravel()
    return sequence_layout(offsets, seconds, next_seconds(offsets, seconds, np.full(BATCH, _YEAR_SECONDS)))


def _training_step(encoder: nn.Module, x_TD: Tensor, layout: Layout) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(encoder.parameters())
    slope_TD = torch.randn(x_TD.shape, generator=torch.Generator().manual_seed(2))

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(encoder(x_TD, layout), slope_TD)
        optimizer.step()

    return step


def _medians(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}
