import numpy as np
import torch

from model.bias import RelativeBias, bucket_edges, time_buckets
from tests.model.naive_hstu import naive_bucket


def test_buckets_follow_the_float32_formula_over_the_whole_range() -> None:
    """A bucket off by one between training and serving shifts every time bias."""
    seconds = [*range(5_000), 10**6, 10**9, 10**12, 2**62, -7, -(10**9)]
    assert time_buckets(torch.tensor(seconds)).tolist() == [naive_bucket(value) for value in seconds]


def test_bucket_edges_are_where_the_float32_formula_changes() -> None:
    """A device's own logarithm would put some times into the bucket beside the CPU's."""
    edges = bucket_edges()
    assert len(edges) == 130
    seconds = torch.tensor(sorted({edge + step for edge in edges[1:-1] for step in (-1, 0, 1)}))
    by_edges = np.searchsorted(np.array(edges[:-1]), seconds.numpy(), side="right") - 1
    assert time_buckets(seconds).tolist() == by_edges.tolist()


def test_the_time_table_is_drawn_around_the_mean_asked_for_and_positions_around_0() -> None:
    """Swapped tables would start a stream without any attention."""
    bias = RelativeBias(200, 3.0)
    bias.reset(torch.Generator().manual_seed(0))
    assert abs(float(bias.time.detach().mean()) - 3) < 0.01
    assert abs(float(bias.position.detach().mean())) < 0.01
