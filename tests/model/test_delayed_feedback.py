"""Actions that come after their exposure was learned as one without: what is learned of both, and what is counted."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from model.batch import order_events
from model.objective import Objective
from model.online import OnlineLearner
from model.sequence import NEW_ACTION, NEW_EXPOSURE, NEW_LATE_ACTION, UserSequence
from model.settings import LearnSettings, ModelSettings
from model.value_scale import ValueScale
from tests.model.synthetic import LEARN, SMALL, learner_factory

CLICKS = ModelSettings(actions=("click",), dim=8, window=32, num_layers=1)
NUM_SHOWN, NUM_CLICKED = 20, 4
"""Events that are shown in each step, and that are clicked on in the next: the true rate is .2."""
LATE = NEW_ACTION | NEW_LATE_ACTION


def event_of(user_id: str, item_id: str, new: int, actions: int, value: float = float("nan")) -> UserSequence:
    """A user with one event."""
    return UserSequence(
        user_id=user_id,
        item_ids=[item_id],
        ts_ms=np.array([1_000]),
        actions=np.array([actions]),
        values=np.array([value], np.float32),
        groups=np.zeros(1, np.int64),
        new=np.array([new]),
        order=np.array([0]),
    )


def mean_probability(learner: OnlineLearner, num_steps: int) -> float:
    """Probability of a click that is told in the last quarter of a stream whose clicks all come one step late."""
    rng = np.random.default_rng(0)
    told, clicked = [], list[UserSequence]()
    for step in range(num_steps):
        shown = [event_of(f"u{step}-{k}", f"i{k % 4}", NEW_EXPOSURE, 0) for k in range(NUM_SHOWN)]
        report = learner.step([*shown, *clicked])
        told.append(1 / (1 + np.exp(-report.action_logits_EA[:, 0])))
        chosen = rng.choice(NUM_SHOWN, NUM_CLICKED, replace=False)
        clicked = [event_of(shown[k].user_id, shown[k].item_ids[0], LATE, 1) for k in chosen.tolist()]
    return float(np.mean(np.concatenate(told[-num_steps // 4 :])))


@pytest.mark.parametrize("action_rates", [True, False])
@pytest.mark.parametrize(("delayed_feedback", "expected"), [(True, 0.2), (False, 0.2 / 1.2)])
def test_late_clicks_are_told_at_their_true_rate(action_rates: bool, delayed_feedback: bool, expected: float) -> None:
    """A click beside the negative that was learned for it would count as one click of two events."""
    learn = LearnSettings(replay_events=0, average_steps=1, delayed_feedback=delayed_feedback)
    learner = learner_factory(replace(CLICKS, action_rates=action_rates), learn)
    assert mean_probability(learner, 120) == pytest.approx(expected, abs=0.008)


def ranking_gradients(sequences: list[UserSequence], learn: LearnSettings = LEARN) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the ranking loss, times the events, by what is told and by what the experts give."""
    settings, nothing, values = replace(SMALL, predict_values=True), cast("Any", None), ValueScale()
    no_items = cast("Any", SimpleNamespace(vocabulary=None, table=None))
    objective = Objective(settings, learn, nothing, no_items, nothing, values, torch.Generator())
    told_EK, own_EK = (torch.randn(len(sequences), 4, requires_grad=True) for _ in range(2))
    pass_ = cast("Any", SimpleNamespace(events=order_events(sequences, 0)))
    loss = objective.ranking_loss(pass_, told_EK, own_EK) * len(sequences)
    told, own = torch.autograd.grad(loss, (told_EK, own_EK))
    return told, own


def test_both_outputs_take_it_back_and_values_are_learned_all_the_same() -> None:
    """One of the two heads would go on learning a rate that is too low; a value would be lost with its negative."""
    torch.manual_seed(0)
    told, own = ranking_gradients([event_of("late", "x", LATE, 0b101, 7.0), event_of("bare", "x", NEW_EXPOSURE, 0)])
    for gradient in (told, own):
        assert gradient[0, :3].tolist() == [-1.0, 0.0, -1.0]
        assert (gradient[1, :3] > 0).all()
    assert own[0, 3] != 0
    assert own[1, 3] == 0


def test_without_the_setting_and_for_actions_in_time_nothing_is_taken_back() -> None:
    """What is compared would not be what was; an organic action has no negative to take back."""
    off = replace(LEARN, delayed_feedback=False)
    for new, learn in ((LATE, off), (NEW_ACTION, LEARN), (NEW_EXPOSURE | NEW_ACTION, LEARN)):
        for gradient in ranking_gradients([event_of("u", "x", new, 0b001)], learn):
            assert -1 < gradient[0, 0] < 0 < gradient[0, 1]


def test_an_exposure_is_one_label_though_its_action_comes_late() -> None:
    """A rate of one half would be measured for an exposure that was acted on, and of two events."""
    learner = learner_factory()
    learner.step([event_of("u", "x", NEW_EXPOSURE, 0), event_of("v", "x", NEW_EXPOSURE, 0)])
    assert learner.meter.figures().ranked_events == 2
    report = learner.step([event_of("u", "x", LATE, 0b001)])
    assert (report.learned, len(report.targets.numbers)) == (True, 1)
    assert learner.meter.figures().ranked_events == 2
    assert np.isfinite(learner.heartbeat.figures().normalized_entropy)
    learner.step([event_of("w", "x", NEW_ACTION, 0b001)])
    assert learner.meter.figures().ranked_events == 3
