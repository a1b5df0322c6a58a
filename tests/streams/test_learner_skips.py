"""A learner whose weights are spoiled stops publishing and says which array is to blame."""

import logging

import pytest
import torch

from streams.batch import MicroBatch
from streams.learner import Learner
from streams.learner_settings import LearnerSettings
from tests.streams.learner_bench import BenchFactory, the_log

STEPS = LearnerSettings().max_skipped_steps
SPOILED = 2
"""Step after which the weight is spoiled."""


def _spoil(learner: Learner, *, mended_after: int | None = None) -> None:
    """Put a NaN into one dense weight after some steps, and take it out again after `mended_after` skipped ones."""
    weight = learner.model.learner._network.features
    kept, learn = weight.detach().clone(), learner.model.learn

    def learn_spoiled(batch: MicroBatch) -> None:
        if learner.model.learner.num_steps == SPOILED and learner.model.skipped_in_a_row != mended_after:
            with torch.no_grad():
                weight.view(-1)[0] = torch.nan
        elif learner.model.skipped_in_a_row:
            with torch.no_grad():
                weight.copy_(kept)
        learn(batch)

    learner.model.learn = learn_spoiled  # type: ignore[method-assign]  # that is where the weight is spoiled


def test_a_nan_in_a_weight_stops_publishing_and_is_named(
    bench_factory: BenchFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers would load versions that go on counting what nothing learns, and no one would be told why."""
    bench = bench_factory(the_log(200))
    learner = bench.learner()
    _spoil(learner)
    with caplog.at_level(logging.ERROR, "streams.learner"):
        learner.run()
    assert learner.model.skipped_in_a_row > STEPS
    assert [record.getMessage() for record in caplog.records] == [
        f"{STEPS} steps in a row without a finite loss: publishing stops; not finite: dense.features"
    ]
    value = learner.metrics.registry.get_sample_value
    assert value("headwater_steps_skipped_in_a_row") == learner.model.skipped_in_a_row
    skipped = int(bench.arrays()["learner.counters"][2])
    assert skipped < STEPS
    assert learner.model.learner.num_skipped > STEPS


def test_publishing_goes_on_once_a_step_succeeds(bench_factory: BenchFactory) -> None:
    """A learner that has recovered would stay silent until someone restarts it."""
    bench = bench_factory(the_log(200))
    learner = bench.learner()
    _spoil(learner, mended_after=STEPS + 1)
    learner.run()
    assert learner.model.skipped_in_a_row == 0
    assert int(bench.arrays()["learner.counters"][2]) == STEPS + 1
    assert learner.metrics.unpublished._value.get() == 0


@pytest.mark.parametrize("steps", [0, -1])
def test_a_number_of_skipped_steps_below_one_is_refused(steps: int) -> None:
    """It would stop publishing for ever."""
    with pytest.raises(ValueError, match="max_skipped_steps must be >= 1"):
        LearnerSettings(max_skipped_steps=steps)
