import dataclasses

import numpy as np

from model.evaluation import Histories
from model.online import OnlineLearner
from tests.model.synthetic import LEARN, SMALL, feed, learner_factory, markov_stream


def dense(learner: OnlineLearner) -> tuple[np.ndarray, np.ndarray]:
    """All dense weights in a row: as they are served, and as they are learned."""
    model, trainer = learner.state()
    served = {name: array for name, array in model.items() if name.startswith("dense.")}
    learned = {name.removeprefix("raw."): array for name, array in trainer.items() if name.startswith("raw.")}
    assert served.keys() == learned.keys()
    return tuple(np.concatenate([each[name].ravel() for name in served]) for each in (served, learned))  # type: ignore[return-value]  # two of them


def test_what_is_served_is_the_average_of_the_last_steps() -> None:
    """Serving would follow each step's noise, or lag behind without end."""
    learner, histories, stream = (
        learner_factory(SMALL, dataclasses.replace(LEARN, average_steps=4)),
        Histories(),
        markov_stream(320),
    )
    expected, _ = dense(learner)
    for start in range(0, len(stream), 32):
        learner.step(histories.extend(stream[start : start + 32]))
        served, learned = dense(learner)
        expected = 0.75 * expected + 0.25 * learned
        np.testing.assert_allclose(served, expected, atol=1e-6)
    assert np.abs(served - learned).max() > 1e-3


def test_averaged_or_not_the_learner_learns_the_same() -> None:
    """What is served must not come back into what is learned, nor through a restart."""
    stream, ranks = markov_stream(320), []
    for average_steps in (1, 50):
        learn = dataclasses.replace(LEARN, average_steps=average_steps)
        learner, histories = learner_factory(SMALL, learn), Histories()
        feed(learner, stream[:160], histories)
        restored = OnlineLearner.restore(SMALL, learn, *learner.state())
        ranks.append(feed(restored, stream[160:], histories).tobytes())
    assert ranks[0] == ranks[1]
