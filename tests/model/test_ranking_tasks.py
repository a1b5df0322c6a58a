"""The ranking head's tasks: mixtures of experts, and the value that comes with an action."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.evaluation import Histories, Interaction
from model.online import OnlineLearner
from model.ranking_head import RankingHead
from model.recommender import Recommender
from model.settings import ModelSettings
from model.value_scale import ValueScale
from tests.model.synthetic import LEARN, SMALL, learner_factory, markov_stream

VALUED = replace(SMALL, predict_values=True)


def valued_stream(num_events: int) -> list[Interaction]:
    """Items of a number that three divides are played for 100 seconds, the others for 5; one in four has no value."""
    return [
        replace(event, value=float("nan") if number % 4 == 0 else (100.0 if int(event.item_id[1:]) % 3 == 0 else 5.0))
        for number, event in enumerate(markov_stream(num_events, num_items=30))
    ]


def learned(settings: ModelSettings, num_events: int) -> tuple[OnlineLearner, np.ndarray]:
    learner, histories, stream = learner_factory(settings), Histories(), valued_stream(num_events)
    size = LEARN.batch_events
    reports = [learner.step(histories.extend(stream[at : at + size])) for at in range(0, num_events, size)]
    return learner, np.concatenate([report.values_E for report in reports])


def test_gates_mix_experts_as_the_formula_says() -> None:
    """For each task: its output's weights times the sum over experts of gate times SiLU of the expert's layer."""
    head = RankingHead(8, num_actions=2, num_tasks=3, num_experts=4, action_rates=False)
    generator = torch.Generator().manual_seed(0)
    head.reset(generator)
    assert head.gates is not None
    torch.nn.init.normal_(head.gates.weight, generator=generator)
    target, item = (torch.randn(5, 8, generator=generator) for _ in range(2))
    given, _ = head(target, item, torch.zeros(5, 3, 2))
    scaled = target * 8**0.5
    features = torch.cat([scaled, item, scaled * item], -1)
    for row in range(5):
        experts = torch.nn.functional.silu(head.hidden(features[row])).reshape(4, 8)
        for task in range(3):
            gate = head.gates(features[row])[task * 4 : task * 4 + 4].softmax(-1)
            expected = head.output.weight[task] @ (gate @ experts) + head.output.bias[task]
            assert given[row, task].item() == pytest.approx(expected.item(), abs=1e-5)


def test_counts_and_experts_are_weighed_and_experts_learn_by_themselves() -> None:
    """Told by counts what they could learn, experts would learn less: no gradient of what is told reaches them."""
    head = RankingHead(8, num_actions=2, num_tasks=3, num_experts=1, action_rates=True)
    generator = torch.Generator().manual_seed(0)
    head.reset(generator)
    assert head.rate_weights is not None
    target, item = (torch.randn(5, 8, generator=generator) for _ in range(2))
    rates = torch.randn(5, 3, 2, generator=generator)
    told, own = head(target, item, rates)
    assert torch.allclose(told[:, :2], rates.sum(1))
    assert torch.equal(told[:, 2], own[:, 2])
    torch.nn.init.normal_(head.rate_weights, generator=generator)
    told, own = head(target, item, rates)
    bias, of_item, of_user, of_experts = head.rate_weights
    base = rates[:, 0]
    expected = base + bias + of_item * rates[:, 1] + of_user * rates[:, 2] + of_experts * (own[:, :2] - base)
    assert torch.allclose(told[:, :2], expected, atol=1e-6)
    told[:, :2].sum().backward()
    assert head.rate_weights.grad is not None
    assert head.hidden.weight.grad is None or not head.hidden.weight.grad.any()


def test_experts_learn_and_a_restored_learner_goes_on_bit_for_bit() -> None:
    """Gates are weights like others: they have gradients, and lie in snapshots."""
    settings = replace(VALUED, ranking_experts=3)
    learner, _ = learned(settings, 320)
    weights, trainer = learner.state()
    assert np.abs(weights["dense.ranking.gates.weight"]).max() > 0
    twin = OnlineLearner.restore(settings, LEARN, weights, trainer)
    assert all(np.array_equal(weights[name], array) for name, array in twin.state()[0].items())


def test_values_are_learned_in_their_own_unit() -> None:
    """What is served is seconds, not a loss's scale; and it is told before it is learned."""
    _, predicted = learned(VALUED, 3_200)
    items = np.array([int(event.item_id[1:]) for event in valued_stream(3_200)])
    late = np.arange(len(items)) > 2_400
    long, short = (np.median(predicted[late & chosen]) for chosen in (items % 3 == 0, items % 3 != 0))
    assert 50 < long < 200
    assert 2.5 < short < 10


def test_served_values_equal_what_the_learner_predicts() -> None:
    """Serving would promise another model's seconds."""
    learner, _ = learned(VALUED, 640)
    recommender = Recommender.from_state(VALUED, learner.state()[0])
    histories = Histories()
    histories.extend([Interaction("new", f"i{number}", 1_000 * number, 1) for number in range(3)])
    learner.frozen = True
    report = learner.step(histories.extend([Interaction("new", "i9", 3_000, 1)]))
    (context,) = Histories().extend([Interaction("new", f"i{number}", 1_000 * number, 1) for number in range(3)])
    assert recommender.values(context, now_ms=3_000, item_ids=["i9"]) == pytest.approx(report.values_E, rel=1e-5)


def test_a_model_without_the_task_says_so() -> None:
    """A number that nothing stands behind would be believed."""
    learner, predicted = learned(SMALL, 64)
    assert np.isnan(predicted).all()
    recommender = Recommender.from_state(SMALL, learner.state()[0])
    (context,) = Histories().extend([Interaction("new", "i1", 0, 1)])
    with pytest.raises(ValueError, match="predict_values must be set"):
        recommender.values(context, now_ms=3_000, item_ids=["i9"])


def test_a_scale_has_mean_0_and_deviation_1_and_turns_back() -> None:
    """Seconds and stars weigh alike in the loss."""
    values = np.random.default_rng(0).lognormal(3, 1, 1_000)
    scale = ValueScale()
    assert scale.values(scale.scaled(values)) == pytest.approx(values)
    scale.update(np.r_[values, np.nan, np.inf])
    scaled = scale.scaled(values)
    assert (scaled.mean(), scaled.std()) == pytest.approx((0, 1), abs=1e-6)
    assert scale.values(scaled) == pytest.approx(values)
    twin = ValueScale()
    twin.load(scale.state())
    assert twin.scaled(values).tobytes() == scaled.tobytes()
    assert np.isfinite(scale.values(np.array([1e9, -1e9]))).all()
