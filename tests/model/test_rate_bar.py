import numpy as np

from model.metrics import BinaryFigures
from model.rate_bar import rate_bar_logits


def made(num_events: int = 3_000) -> tuple[list[str], list[str], np.ndarray]:
    """Exposures whose first action follows from item and user; the second is rare and random."""
    draws = np.random.default_rng(0)
    users, items = draws.integers(30, size=num_events), draws.integers(40, size=num_events)
    odds = draws.normal(size=30)[users] + 2 * draws.normal(size=40)[items]
    first = draws.random(num_events) < 1 / (1 + np.exp(-odds))
    second = draws.random(num_events) < 0.02
    return [f"u{user}" for user in users], [f"i{item}" for item in items], first | (second.astype(np.int64) << 1)


def test_the_bar_is_strong_where_items_and_users_differ_and_silent_where_not() -> None:
    """A weak bar makes any ranker look good."""
    users, items, actions = made()
    logits = rate_bar_logits(users, items, actions, 2)
    figures = [BinaryFigures(), BinaryFigures()]
    for column, figure in enumerate(figures):
        figure.update(logits[1_000:, column], (actions[1_000:] >> column) & 1 == 1)
    assert figures[0].auc() > 0.8
    assert figures[0].normalized_entropy() < 0.75
    assert 0.35 < figures[1].auc() < 0.65
    assert figures[1].normalized_entropy() < 1.4


def test_no_score_follows_from_what_comes_after_it() -> None:
    """A bar that counts the exposure itself cannot be beaten."""
    users, items, actions = made(400)
    changed = actions.copy()
    changed[200:] = 3 - changed[200:]
    before, after = (rate_bar_logits(users, items, labels, 2) for labels in (actions, changed))
    assert np.array_equal(before[:201], after[:201])
    assert not np.array_equal(before[201:], after[201:])


def test_a_model_beside_the_bar_adds_what_it_knows_and_noise_adds_nothing() -> None:
    """Whether a model is worth anything beside two counters could not be told."""
    users, items, actions = made()
    label = (actions & 1).astype(np.float64)
    draws = np.random.default_rng(1)
    noise = draws.normal(size=(len(label), 2))
    models = {"none": None, "noise": noise, "knows": noise + 3 * label[:, None]}
    entropies = {}
    for name, model in models.items():
        figure = BinaryFigures()
        figure.update(rate_bar_logits(users, items, actions, 2, model)[1_000:, 0], label[1_000:] == 1)
        entropies[name] = figure.normalized_entropy()
    assert entropies["knows"] < 0.6 * entropies["none"]
    assert abs(entropies["noise"] - entropies["none"]) < 0.02


def test_the_first_scores_are_the_formula() -> None:
    """Smoothing or the order of score and count could be another without being seen."""
    logits = rate_bar_logits(["u", "u"], ["i", "j"], np.array([1, 0]), 1)
    assert logits[0, 0] == 0.0
    # After one action in one exposure: global 2 / 3; the item is new; the user has (1 + 5 * 2 / 3) / 6.
    shift = np.log((13 / 18) / (5 / 18)) - np.log(2)
    bias, weight = 0.05, 1.0  # the first step of AdaGrad on the bias is its whole rate
    np.testing.assert_allclose(logits[1, 0], np.log(2) + bias + weight * shift, rtol=1e-6)
