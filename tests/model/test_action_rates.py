"""Counted rates: what they count, and what the ranking head is given of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.action_rates import ActionRates, rate_inputs
from model.batch import NewEvents
from model.sequence import NEW_ACTION, NEW_EXPOSURE, NEW_FURTHER_ACTION
from tests.model.synthetic import SMALL, learner_factory


def events_of(rows: list[int], actions: list[int], new: list[int], exposure_rate: float = 1.0) -> NewEvents:
    zeros = np.zeros(len(rows), np.int64)
    rates = np.full(len(rows), exposure_rate)
    return NewEvents(
        zeros, zeros, np.array(rows), np.array(actions), np.array(new), zeros, np.full(len(rows), np.nan), rates
    )


def counts_of(rates: ActionRates, num_rows: int) -> list[list[float]]:
    counts: list[list[float]] = rates.state(num_rows)["rates.items"].tolist()
    return counts


def log_odds(rate: float) -> float:
    return float(np.log(rate / (1 - rate)))


def test_exposures_and_first_actions_are_counted() -> None:
    """A further action does not say which of its bits is new; the first one came with its event or after it."""
    rates = ActionRates(2)
    both = NEW_EXPOSURE | NEW_ACTION
    rates.update(events_of([0, 1, 0, 1], [0, 3, 1, 2], [NEW_EXPOSURE, both, NEW_ACTION, NEW_FURTHER_ACTION]))
    assert counts_of(rates, 3) == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert rates.state(0)["rates.total"].tolist() == [2, 2, 1]


def test_a_bare_exposure_stands_for_those_that_were_left_out() -> None:
    """Else an item of which few exposures are kept would look liked by all."""
    rates = ActionRates(1)
    rates.update(events_of([0, 0], [0, 1], [NEW_EXPOSURE] * 2, exposure_rate=0.25))
    assert counts_of(rates, 1) == [[5, 1]]


def test_inputs_are_log_odds_beside_those_of_all() -> None:
    """The formula: five exposures at the overall rate, then what was counted; nothing is known of a new row."""
    items, users = torch.tensor([[15.0, 5.0], [0, 0]]), torch.tensor([[0.0, 0], [5, 0]])
    inputs = rate_inputs(torch.tensor([98.0, 49.0]), items, users)
    assert inputs[:, 0].flatten().tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert inputs[:, 1].flatten().tolist() == pytest.approx([log_odds(7.5 / 20), 0.0], abs=1e-6)
    assert inputs[:, 2].flatten().tolist() == pytest.approx([0.0, log_odds(2.5 / 10)], abs=1e-6)


def test_what_is_always_or_never_done_stays_finite() -> None:
    """Actions may come without their exposures: a rate of 1 or more has no log odds."""
    rates = ActionRates(2)
    rates.update(events_of([0] * 500, [1] * 500, [NEW_ACTION] * 500))
    inputs = rates.inputs(np.array([0, 7_000]), torch.tensor([[9.0, 9, 0], [0, 0, 0]]))
    assert torch.isfinite(inputs).all()


def test_an_item_is_followed_as_it_changes() -> None:
    """After many exposures without, a hundred with an action count for a tenth."""
    rates = ActionRates(1)
    for _ in range(50):
        rates.update(events_of([3] * 100, [0] * 100, [NEW_EXPOSURE] * 100))
    assert counts_of(rates, 4)[3][0] <= 1_000
    rates.update(events_of([3] * 100, [1] * 100, [NEW_EXPOSURE] * 100))
    shown, acted = counts_of(rates, 4)[3]
    assert acted / shown > 0.09


def test_a_state_of_other_actions_is_refused() -> None:
    """It would be read as counts of something else."""
    state = ActionRates(2).state(3)
    with pytest.raises(ValueError, match=r"rates\.items must have shape \(-1, 4\), got \(3, 3\)"):
        ActionRates(3).load(state)
    with pytest.raises(ValueError, match=r"rates\.total must have shape \(3,\), got nothing"):
        ActionRates(2).load({"rates.items": state["rates.items"]})


def test_without_them_the_head_has_no_weights_for_them() -> None:
    """A setting that changes what a snapshot holds is told by its arrays."""
    learner = learner_factory(replace(SMALL, action_rates=False))
    assert "dense.ranking.rate_weights" not in learner.state()[0]
    assert "dense.ranking.rate_weights" in learner_factory().state()[0]
