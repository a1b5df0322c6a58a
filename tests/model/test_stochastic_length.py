import numpy as np
import pytest

from model.stochastic_length import Selection, StochasticLength

SELECTIONS: tuple[Selection, ...] = ("newest", "random", "weighted")


@pytest.mark.parametrize("longest", [1_024, 4_096])
@pytest.mark.parametrize("alpha", [1.6, 1.7, 1.8, 1.9, 2.0])
def test_the_number_of_events_that_stay_is_that_of_the_formula(alpha: float, longest: int) -> None:
    """Training would cost another power of the length than what was asked for."""
    draws = np.random.default_rng(0)
    rule = StochasticLength(alpha=alpha, longest=longest, selection="newest")
    lengths = np.exp(draws.uniform(0, np.log(longest), 20_000)).astype(np.int64)
    stay = sum(len(rule.choose(np.zeros(length, np.int64), draws)) for length in lengths.tolist())
    threshold = longest ** (alpha / 2)
    whole = np.where(lengths <= threshold, 1, np.minimum(1, longest**alpha / lengths**2.0))
    wanted = np.sum(whole * lengths + (1 - whole) * threshold)
    assert abs(stay / wanted - 1) < 0.01
    assert abs(rule.expected_lengths(lengths).sum() / wanted - 1) < 0.01
    assert (stay == lengths.sum()) == (alpha == 2)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_what_stays_is_in_order_once_each_and_of_the_right_number(selection: Selection) -> None:
    """A history out of order would be one that never was."""
    rule = StochasticLength(alpha=1.2, longest=100, selection=selection)
    draws, counts = np.random.default_rng(1), set()
    for _ in range(300):
        chosen = rule.choose(np.arange(80) * 60, draws)
        assert np.all(np.diff(chosen) > 0)
        assert chosen[0] >= 0
        assert chosen[-1] < 80
        counts.add(len(chosen))
    assert counts == {rule.short, 80}
    assert len(rule.choose(np.zeros(rule.short, np.int64), draws)) == rule.short


def test_newest_keeps_the_end_random_all_alike_and_weighted_the_old_less_often() -> None:
    """The three rules would be one under three names."""
    draws, seconds = np.random.default_rng(2), np.r_[0, np.full(49, 10_000)]
    share = {}
    for selection in SELECTIONS:
        rule = StochasticLength(alpha=1.1, longest=50, selection=selection)
        shortened = [c for c in (rule.choose(seconds, draws) for _ in range(4_000)) if len(c) == rule.short]
        share[selection] = np.bincount(np.concatenate(shortened), minlength=50) / len(shortened)
    short = StochasticLength(alpha=1.1, longest=50).short
    assert share["newest"].tolist() == [0.0] * (50 - short) + [1.0] * short
    assert np.all(np.abs(share["random"] - short / 50) < 0.04)
    assert share["weighted"][0] == 0
    assert np.all(np.abs(share["weighted"][1:] - short / 49) < 0.04)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 1.0}, "alpha must be in"),
        ({"alpha": 2.1}, "alpha must be in"),
        ({"longest": 0}, "longest must be >= 1"),
        ({"selection": "oldest"}, "selection must be newest"),
    ],
)
def test_what_is_no_rule_is_refused(changes: dict[str, object], message: str) -> None:
    """An alpha of 1 keeps next to nothing, one above 2 is longer than long."""
    with pytest.raises(ValueError, match=message):
        StochasticLength(**{"alpha": 1.5, "longest": 10, **changes})  # type: ignore[arg-type]  # a mapping by name
