import torch

from deploy.bench.attention import AttentionCase, AttentionShape
from deploy.bench.peak_memory import peak_memory_bytes, reset_peak_memory


def test_both_ways_that_are_timed_give_the_same_outputs_and_gradients() -> None:
    """A ratio between two different computations says nothing."""
    case = AttentionCase(AttentionShape(batch=3, length=150, heads=2, dim=8, goal=1))
    blocked, gradients = case.blocked(), case.gradients()
    torch.testing.assert_close(blocked, case.naive(), rtol=0, atol=1e-5)
    naive = case.gradients()
    assert gradients.keys() == naive.keys() == {"q", "k", "v", "position", "time"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, naive[name], rtol=1e-4, atol=1e-4)


def test_the_peak_is_of_what_was_held_since_it_was_reset() -> None:
    """Memory of an earlier, longer sequence would be counted for a shorter one."""
    big = torch.ones(40_000_000)
    del big
    before = reset_peak_memory()
    assert peak_memory_bytes() - before < 40_000_000
    held = torch.ones(20_000_000)
    assert peak_memory_bytes() - before >= held.nbytes * 0.9
