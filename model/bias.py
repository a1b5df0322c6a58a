"""Relative attention bias over position and time, shared by the heads of a layer (HSTU.md, section 1).

Shapes: B windows, R rows (queries), K keys.
"""

import torch
from torch import Tensor, nn

NUM_TIME_BUCKETS = 128
"""Buckets of time differences; the table has one more row."""
_BUCKET_WIDTH = 0.301
_INITIAL_TIME_MEAN = 3.0


def time_buckets(seconds: Tensor) -> Tensor:
    """Bucket of each time difference in int64 seconds: clamp(floor(ln(max(|d|, 1)) / 0.301), 0, 128), ln in float32.

    >>> time_buckets(torch.tensor([0, 1, 2, 60, -60, 31_536_000])).tolist()
    [0, 0, 2, 13, 13, 57]
    """
    logs = seconds.abs().clamp_(min=1).to(torch.float32).log_()
    return logs.div_(_BUCKET_WIDTH).floor_().clamp_(0, NUM_TIME_BUCKETS).to(torch.int64)


class RelativeBias(nn.Module):
    """One learned scalar per distance in tokens plus one per bucket of distance in time.

    The reference's position table has 2N - 1 rows; under a causal mask only distances of 0 or more are read, so that
    only those are stored.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(window + 1))
        self.time = nn.Parameter(torch.empty(NUM_TIME_BUCKETS + 1))

    def reset(self, generator: torch.Generator) -> None:
        """Draw both tables with deviation .02, around 0 for positions and 3 for times.

        The reference draws both around 0. Attention then sums to almost nothing over a short history, far below the
        epsilon of the norm that follows, and a single pass over a stream is too short to grow out of that.
        """
        nn.init.normal_(self.position, std=0.02, generator=generator)
        nn.init.normal_(self.time, mean=_INITIAL_TIME_MEAN, std=0.02, generator=generator)

    def forward(self, distance_BRK: Tensor, bucket_BRK: Tensor) -> Tensor:
        """Bias [B, R, K] of int64 distances (query index - key index, clipped at 0) and time buckets."""
        bias: Tensor = self.position[distance_BRK] + self.time[bucket_BRK]
        return bias

    def self_bias(self) -> Tensor:
        """Bias of a token on itself: distance 0, time difference 0."""
        return self.position[0] + self.time[0]
