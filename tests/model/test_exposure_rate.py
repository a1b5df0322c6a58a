"""Bare exposures that were left out by chance: what the ranking head learns is as if they were there."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from model.batch import NewEvents, order_events
from model.forward import NewOutputs
from model.objective import Objective, Pass
from model.sequence import NEW_ACTION, NEW_EXPOSURE, NEW_LATE_ACTION, UserSequence
from tests.model.synthetic import LEARN, SMALL, learner_factory


def sequence_of(items: list[str], actions: list[int], rate: float = 1.0) -> UserSequence:
    count = len(items)
    return UserSequence(
        user_id="ada",
        item_ids=items,
        ts_ms=np.arange(count) * 1_000,
        actions=np.array(actions),
        values=np.full(count, np.nan, np.float32),
        groups=np.arange(count),
        new=np.full(count, NEW_EXPOSURE),
        order=np.arange(count),
        exposure_rate=rate,
    )


class OneWeightAnItem:
    """A ranking head that gives each item a log odds of its own, to be fitted."""

    def __init__(self, num_items: int) -> None:
        self.weight_I = torch.zeros(num_items, dtype=torch.float64, requires_grad=True)

    def ranking(
        self, target_ED: torch.Tensor, item_ED: torch.Tensor, rates_E3A: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits_E1 = self.weight_I[item_ED.long().squeeze(-1)].unsqueeze(-1)
        return logits_E1, logits_E1


def fitted_rates(events: NewEvents, items: list[int]) -> list[float]:
    """The probabilities that the weights mean once the ranking loss is at its least."""
    head = OneWeightAnItem(max(items) + 1)
    nothing = cast("Any", None)
    no_items = cast("Any", SimpleNamespace(vocabulary=None, table=None))
    objective = Objective(SMALL, LEARN, cast("Any", head), no_items, nothing, nothing, torch.Generator())
    item_ED = torch.tensor(items, dtype=torch.float64).unsqueeze(-1)
    pass_ = cast(
        "Pass",
        SimpleNamespace(events=events, outputs=NewOutputs(item_ED, item_ED, item_ED, item_ED), rates_E3A=item_ED),
    )
    optimizer: Any = torch.optim.LBFGS([head.weight_I], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = objective.ranking_loss(pass_, *objective.ranking(pass_))
        torch.autograd.backward(value)
        return value

    for _ in range(5):
        optimizer.step(loss)
    return cast("list[float]", torch.sigmoid(head.weight_I).tolist())


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.1])
def test_a_fit_on_sampled_exposures_finds_the_rates_among_all(rate: float) -> None:
    """Whoever keeps one exposure in ten would serve probabilities that are ten times too high."""
    acted, exposed = (20, 80), (1_000, 800)
    items, actions = [], []
    for item in (0, 1):
        num_bare = round((exposed[item] - acted[item]) * rate)
        items += [item] * (acted[item] + num_bare)
        actions += [1] * acted[item] + [0] * num_bare
    events = order_events([sequence_of([f"i{item}" for item in items], actions, rate)], 0)
    assert fitted_rates(events, items) == pytest.approx([0.02, 0.1], rel=1e-3)


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.1])
def test_a_fit_finds_them_where_all_actions_come_late(rate: float) -> None:
    """Exposures that were left out were learned by their action alone: nothing of theirs is to be taken back."""
    acted, exposed = 100, 1_000
    num_bare, num_late = round(exposed * rate), round(acted * rate)
    actions = [0] * num_bare + [1] * acted
    new = [NEW_EXPOSURE] * num_bare + [NEW_ACTION | NEW_LATE_ACTION] * num_late + [NEW_ACTION] * (acted - num_late)
    sequence = replace(sequence_of(["i0"] * len(actions), actions, rate), new=np.array(new))
    assert fitted_rates(order_events([sequence], 0), [0] * len(actions)) == pytest.approx([0.1], rel=1e-3)


def test_each_event_is_corrected_by_the_rate_of_its_own_sequence() -> None:
    """The rate may change between samples that are learned together."""
    whole, sampled = sequence_of(["a", "b"], [0, 1]), replace(sequence_of(["a"], [1], 0.25), user_id="bob")
    events = order_events([whole, sampled], 0)
    rates = dict(
        zip(zip(events.owners.tolist(), events.indexes.tolist(), strict=True), events.exposure_rates, strict=True)
    )
    assert rates == {(0, 0): 1.0, (0, 1): 1.0, (1, 0): 0.25}
    assert events.select(events.actions == 0).exposure_rates.tolist() == [1.0]


def test_without_sampling_nothing_changes_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A correction by nothing would make runs irreproducible by their snapshots."""

    def uncorrected(self: Objective, pass_: Pass) -> tuple[torch.Tensor, torch.Tensor]:
        told_EK, own_EK = self._network.ranking(pass_.outputs.target_ED, pass_.outputs.item_ED, pass_.rates_E3A)
        return told_EK, own_EK

    sequence = sequence_of([f"i{number}" for number in range(32)], [number % 3 for number in range(32)])
    states = []
    for change in (False, True):
        if change:
            monkeypatch.setattr(Objective, "ranking", uncorrected)
        learner = learner_factory()
        for _ in range(3):
            learner.step([sequence])
        states.append(learner.state()[0])
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    corrected = learner_factory()
    monkeypatch.undo()
    for _ in range(3):
        corrected.step([replace(sequence, exposure_rate=0.5)])
    assert not np.array_equal(corrected.state()[0]["items.weight"], states[0]["items.weight"])
