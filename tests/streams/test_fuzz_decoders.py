"""A short run of `make fuzz`."""

import pytest

from tests.streams.fuzz_decoders import Target, fuzz, targets

NUM_EXAMPLES = 2_000


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_rubbish_is_refused_and_raises_nothing_else(target: Target) -> None:
    """One poisoned record ends a process, again at each restart."""
    taken, _ = fuzz(target, NUM_EXAMPLES, seed=7)
    assert taken.total() == NUM_EXAMPLES
    assert taken["taken"] > 0, "all inputs are so broken that nothing deep is reached"
    assert len(taken) > 1
