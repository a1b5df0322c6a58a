"""Relative attention bias over position and time, shared by the heads of a layer (HSTU.md, section 1).

Shapes: S sequences, R queries of a block, C columns (keys), W the longest distance in tokens, T tokens.
"""

from functools import cache

import torch
from torch import Tensor, nn

NUM_TIME_BUCKETS = 128
"""Buckets of time differences; the table has one more row."""
HIDDEN_BUCKET = NUM_TIME_BUCKETS + 1
"""Stands for a key that is not seen."""
_BUCKET_WIDTH = 0.301
_LONGEST_SECONDS = 6e16
"""In the last bucket, as everything longer is."""


def time_buckets(seconds: Tensor) -> Tensor:
    """Bucket of each time difference in int64 seconds: clamp(floor(ln(max(|d|, 1)) / 0.301), 0, 128), ln in float32.

    They are int32, as what reads a table by them is fastest then.

    >>> time_buckets(torch.tensor([0, 1, 2, 60, -60, 31_536_000])).tolist()
    [0, 0, 2, 13, 13, 57]
    """
    logs = seconds.to(torch.float32).abs_().clamp_(1.0, _LONGEST_SECONDS).log_()
    return logs.div_(_BUCKET_WIDTH).to(torch.int32)


@cache
def bucket_edges() -> tuple[int, ...]:
    """First number of seconds in each time bucket (1 for the first), then a number that is never reached."""
    edges = [1]
    for bucket in range(1, NUM_TIME_BUCKETS + 1):
        low, high = edges[-1], 2**62
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if int(time_buckets(torch.tensor([middle]))) < bucket else (low, middle)
        edges.append(low)
    return (*edges, 2**63 - 1)


class RelativeBias(nn.Module):
    """One learned scalar per distance in tokens plus one per bucket of distance in time.

    The published position table has 2N - 1 rows; no key is ever seen from further back than itself, but for a
    contextual prefix, which reads distance 0 there, so that only the N rows of distances >= 0 are stored.
    """

    def __init__(self, window: int, initial_time: float) -> None:
        super().__init__()
        self.initial_time = initial_time
        self.position = nn.Parameter(torch.empty(window + 1))
        self.time = nn.Parameter(torch.empty(NUM_TIME_BUCKETS + 1))

    def reset(self, generator: torch.Generator) -> None:
        """Draw both tables with deviation .02, positions around 0 and times around `initial_time`.

        The published initial mean is 0. Attention then sums to almost nothing over a short history, far below the
        epsilon of the norm that follows, and a single pass over a stream is too short to grow out of that.
        """
        nn.init.normal_(self.position, std=0.02, generator=generator)
        nn.init.normal_(self.time, mean=self.initial_time, std=0.02, generator=generator)
