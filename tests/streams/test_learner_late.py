"""Actions that come after their exposure's sample, through the learner process."""

import numpy as np

from storage.sample_body import NEW_ACTION, NEW_EXPOSURE, NEW_LATE_ACTION
from streams.samples import Sample
from tests.streams.learner_bench import Bench, BenchFactory
from tests.streams.made_samples import SampleLog, sample_factory

SHOWN = sample_factory(trigger_offset=0, actions=[0], new=[NEW_EXPOSURE], num_records=1, kafka_ms=[1_000])


def acted(new: int) -> Sample:
    """The sample of the action on what was shown."""
    return sample_factory(trigger_offset=1, since=0, new=[new], num_records=1, kafka_ms=[1_001])


def learned(bench: Bench) -> tuple[int, int]:
    """Steps, and labels of exposures and organic actions, once the log is learned."""
    learner = bench.run().model.learner
    return learner.num_steps, learner.meter.figures().ranked_events


def test_a_late_action_takes_back_what_its_exposure_taught(bench_factory: BenchFactory) -> None:
    """The bit would be lost between the sample and the loss."""
    weights = []
    for new in (NEW_ACTION | NEW_LATE_ACTION, NEW_ACTION):
        bench = bench_factory(SampleLog(1).send([SHOWN]))
        assert learned(bench) == (1, 1)
        bench.log.send([acted(new)])
        assert learned(bench) == (2, 1 if new & NEW_LATE_ACTION else 2)
        weights.append(bench.arrays()["dense.ranking.output.bias"])
    # More of the action that came; and the negative of the one that did not is learned once, not twice.
    assert (weights[0] > weights[1]).all()


def test_an_action_in_the_batch_of_its_exposure_is_in_time(bench_factory: BenchFactory) -> None:
    """A negative that was never learned would be taken back."""
    together = bench_factory(SampleLog(1).send([SHOWN, acted(NEW_ACTION | NEW_LATE_ACTION)]))
    in_time = bench_factory(SampleLog(1).send([sample_factory()]))
    assert learned(together) == learned(in_time) == (1, 1)
    for name in ("dense.ranking.output.bias", "items.weight", "meter.histogram"):
        np.testing.assert_array_equal(together.arrays()[name], in_time.arrays()[name])
