"""Steps on the past alone."""

import dataclasses

import numpy as np

from model.evaluation import Histories
from model.online import OnlineLearner
from tests.model.synthetic import LEARN, SMALL, feed, learner_factory, markov_stream

SAMPLED = dataclasses.replace(SMALL, exact_softmax_rows=20, num_negatives=8)


def test_the_past_is_learned_better_and_nothing_is_counted() -> None:
    """Idle time would be worth nothing, or figures would be of what was learned already."""
    plain = dataclasses.replace(SMALL, transition_memory=False, popularity_prior=False)
    for settings in (plain, dataclasses.replace(plain, exact_softmax_rows=20, num_negatives=8)):
        stream, hits = markov_stream(900, seed=3), []
        for num_rehearsals in (0, 40):
            learner, histories = learner_factory(settings), Histories()
            feed(learner, stream[:192], histories)
            before = learner.meter.figures()
            assert [learner.rehearse() for _ in range(num_rehearsals)] == [True] * num_rehearsals
            assert repr(learner.meter.figures()) == repr(before)
            assert (learner.num_events, learner.num_steps) == (192, 6 + num_rehearsals)
            learner.frozen = True
            ranks = feed(learner, stream[192:], histories)
            hits.append(np.mean(ranks <= 10))
        assert hits[1] > hits[0] + 0.05


def test_without_a_past_and_while_frozen_nothing_is_rehearsed() -> None:
    """A learner that has just begun would end."""
    learner = learner_factory()
    assert not learner.rehearse()
    feed(learner, markov_stream(64), Histories())
    learner.frozen = True
    assert not learner.rehearse()
    none = learner_factory(SMALL, dataclasses.replace(LEARN, replay_events=0))
    feed(none, markov_stream(64), Histories())
    assert not none.rehearse()


def test_a_past_of_items_without_rows_teaches_nothing() -> None:
    """The step would have no loss to learn from."""
    learner = learner_factory(SMALL, dataclasses.replace(LEARN, admission="seen", admit_after=255))
    feed(learner, markov_stream(64), Histories())
    assert not learner.rehearse()


def test_a_restored_learner_rehearses_bit_for_bit() -> None:
    """What a version holds would not be all that the next step depends on."""
    learner = learner_factory(SAMPLED)
    feed(learner, markov_stream(320), Histories())
    restored = OnlineLearner.restore(SAMPLED, LEARN, *learner.state())
    for each in (learner, restored):
        assert each.rehearse()
    for mine, its in zip(learner.state(), restored.state(), strict=True):
        assert {name: array.tobytes() for name, array in mine.items()} == {
            name: array.tobytes() for name, array in its.items()
        }
