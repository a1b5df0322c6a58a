"""An epoch of leave-one-out on MovieLens-1M with blocked attention, and with the published code's padded einsum.

    HEADWATER_DATA=... python -m tests.benchmarks.epoch_seconds [--preset base|large] [--rounds 9]

Both learn the same batch in turns, forward, backward and step; an epoch is the median of a step times its steps.
"""

import argparse
import os
import time
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch
from torch import Tensor

import model.hstu
from deploy.bench.attention import naive_attention
from deploy.evaluate_leave_one_out import PRESETS
from model.attention import AttentionPlan, interval_attention
from model.bias import RelativeBias
from model.blocked_attention import Rule
from model.leave_one_out import LeaveOneOut, LeaveOneOutSettings
from streams.histories import load_corpus


def padded_einsum(
    q_Thd: Tensor, k_Thd: Tensor, v_The: Tensor, plan: AttentionPlan, bias: RelativeBias | None, rule: Rule
) -> Tensor:
    """Causal attention over sequences padded to N, with whole N x N scores; what `interval_attention` gives."""
    assert bias is not None
    layout, length = plan.layout, int(rule.divisor)
    lengths_B = np.diff(layout.offsets)
    owners_T = torch.from_numpy(np.repeat(np.arange(len(lengths_B)), lengths_B))
    index_T = torch.from_numpy(layout.positions_T)

    def padded(values_T: Tensor) -> Tensor:
        room = values_T.new_zeros((len(lengths_B), length, *values_T.shape[1:]))
        return room.index_put((owners_T, index_T), values_T)

    q_BNhd, k_BNhd, v_BNhe = (padded(values) for values in (q_Thd, k_Thd, v_The))
    times_BN, queries_BN = (padded(torch.from_numpy(each)) for each in (layout.seconds_T, layout.query_seconds_T))
    return naive_attention(q_BNhd, k_BNhd, v_BNhe, queries_BN, times_BN, bias)[owners_T, index_T]


def step_seconds(run: LeaveOneOut, users: np.ndarray, attention: object) -> tuple[float, float]:
    """One step on some users: seconds and loss."""
    with mock.patch.object(model.hstu, "interval_attention", attention):
        run.trainer.begin(0)
        began = time.perf_counter()
        loss = run.trainer.step(run._batch(users, 1), run.corpus.num_items)
        return time.perf_counter() - began, loss


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(os.environ["HEADWATER_DATA"])
    corpus = load_corpus("ml-1m", cache=Path(".headwater/cache"), folder=folder, say=print)
    settings = LeaveOneOutSettings(encoder="hstu", selection="weighted", **PRESETS[asked.preset])
    runs = [LeaveOneOut(corpus, settings, torch.device("cpu")) for _ in range(2)]
    users, size = np.random.default_rng(0).permutation(corpus.num_users), settings.batch_users
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(asked.rounds + 1):
        chosen = users[number * size : (number + 1) * size]
        (blocked, blocked_loss), (padded, padded_loss) = (
            step_seconds(run, chosen, attention)
            for run, attention in zip(runs, (interval_attention, padded_einsum), strict=True)
        )
        assert abs(blocked_loss - padded_loss) < 1e-3 * padded_loss, (blocked_loss, padded_loss)
        if number:  # the first step warms up
            seconds[0].append(blocked)
            seconds[1].append(padded)
    steps = runs[0].num_steps()
    for name, each in zip(("blocked", "padded einsum"), seconds, strict=True):
        print(f"{name:14} {median(each) * steps:7.1f} s an epoch of {steps} steps")
    ratios = sorted(padded / blocked for blocked, padded in zip(*seconds, strict=True))
    print(f"padded einsum takes {median(ratios):.2f} times as long (rounds: {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
