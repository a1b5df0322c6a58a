"""Stochastic length in the online learner: what is scored sees all, what is learned from is shorter."""

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from model.evaluation import Histories
from model.objective import Objective, Pass
from model.online import OnlineLearner
from model.retrieval_loss import RetrievalLoss
from model.scoring import Scoring
from model.short_windows import shortened
from model.stochastic_length import StochasticLength
from model.token_order import SummedTokens
from model.user_features import NO_FEATURE
from model.windows import EncodedSequence, Window, cut_windows, group_starts
from tests.model.synthetic import LEARN, SMALL, learner_factory, markov_stream

ORDER = SummedTokens()
SHORT = replace(LEARN, length_alpha=1.2)


def window_of(context: int, new: int) -> Window:
    """A window of groups of two events, the last of which are new."""
    count = context + new
    sequence = EncodedSequence(
        rows=np.arange(count),
        seconds=np.arange(count) * 60,
        actions=np.ones(count, np.int64),
        keys=np.arange(count),
        features=np.full((count, 2), NO_FEATURE),
        group_starts=group_starts(np.arange(count) // 2),
        new=np.r_[np.zeros(context, np.int64), np.full(new, 3)],
        place=np.r_[np.full(context, -1), np.arange(new)],
    )
    (window,) = cut_windows(sequence, 128, ORDER)
    return window


def test_targets_stay_and_so_do_their_groups() -> None:
    """A target that saw its own group's actions would be told what it is to learn."""
    whole = window_of(90, 4)
    lengths = StochasticLength(alpha=1.2, longest=127, selection="newest")
    short = shortened(whole, lengths, np.random.default_rng(0), ORDER)
    assert short.end == lengths.short + 4
    assert short.length < whole.length
    kept = short.sequence
    assert kept.rows[short.targets].tolist() == [90, 91, 92, 93]
    assert kept.place[short.targets].tolist() == [0, 1, 2, 3]
    assert short.reads(short.targets, ORDER).tolist() == [lengths.short] * 2 + [lengths.short + 2] * 2
    assert kept.rows[kept.group_starts].tolist() == (kept.rows // 2 * 2).clip(min=kept.rows[0]).tolist()


def test_a_short_context_stays_whole() -> None:
    """Most users have few events: nothing is copied for them."""
    whole = window_of(10, 2)
    lengths = StochasticLength(alpha=1.2, longest=127)
    assert shortened(whole, lengths, np.random.default_rng(0), ORDER) is whole


def scores(learner: OnlineLearner, histories: Histories, start: int, end: int) -> np.ndarray:
    stream = markov_stream(400, num_items=20)
    reports = [learner.step(histories.extend(stream[at : at + 32])) for at in range(start, end, 32)]
    return np.concatenate([report.action_logits_EA for report in reports])


def test_a_restored_learner_shortens_as_one_that_went_on() -> None:
    """What is drawn is part of the state, or a restart would not be bit for bit."""
    learner, histories = learner_factory(SMALL, SHORT), Histories()
    scores(learner, histories, 0, 256)
    twin = OnlineLearner.restore(SMALL, SHORT, *learner.state())
    twin_histories = Histories()
    stream = markov_stream(400, num_items=20)
    for at in range(0, 256, 32):
        twin_histories.extend(stream[at : at + 32])
    assert scores(learner, histories, 256, 384).tobytes() == scores(twin, twin_histories, 256, 384).tobytes()


def test_what_is_scored_sees_all_of_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter windows are for learning: a frozen learner gives the same odds with and without them."""
    learners = [learner_factory(SMALL, settings) for settings in (LEARN, SHORT)]
    for learner in learners:
        learner.frozen = True
    first, second = (scores(learner, Histories(), 0, 384) for learner in learners)
    assert first.tobytes() == second.tobytes()
    spy = mock.Mock(wraps=shortened)
    monkeypatch.setattr("model.online.shortened", spy)
    learned = learner_factory(SMALL, SHORT)
    scores(learned, Histories(), 0, 64)
    assert spy.called


def test_what_is_counted_is_of_the_negatives_that_are_learned_against(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gates would learn from the counts of other items than those whose scores stand beside them."""
    scored: list[Any] = []
    learned: list[Any] = []
    score, loss = Scoring.score, RetrievalLoss.__call__

    def spied_score(self: Scoring, objective: Objective, pass_: Pass, encoded: Any) -> Any:
        scored.append(pass_.columns)
        return score(self, objective, pass_, encoded)

    def spied_loss(self: RetrievalLoss, pass_: Pass, past: Any, popularity: Any, rivals: Any) -> Any:
        learned.append(pass_.columns)
        return loss(self, pass_, past, popularity, rivals)

    monkeypatch.setattr(Scoring, "score", spied_score)
    monkeypatch.setattr(RetrievalLoss, "__call__", spied_loss)
    scores(learner_factory(replace(SMALL, exact_softmax_rows=10), SHORT), Histories(), 0, 96)
    assert len(scored) == len(learned) == 3
    assert all(np.array_equal(one, other) for one, other in zip(scored, learned, strict=True))
