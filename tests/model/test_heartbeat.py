import math

import numpy as np
import pytest

from model.evaluation import Histories, Interaction
from model.heartbeat import FADING, Heartbeat
from model.metrics import rank_gains
from tests.model.synthetic import feed, learner_factory, markov_stream

HOUR_MS = 3_600_000


def pushed(heartbeat: Heartbeat, ranks: list[float], fresh: list[bool], new: list[bool]) -> None:
    heartbeat.update_ranks(np.arange(len(ranks)), np.array(ranks), np.array(fresh), np.array(new))


def test_a_window_holds_the_last_targets_whatever_the_batches() -> None:
    """Figures of now would be of long ago, or of whichever batch came last."""
    draws = np.random.default_rng(0)
    ranks, fresh, new = draws.integers(1, 30, 200).astype(np.float64), draws.random(200) < 0.2, draws.random(200) < 0.3
    for cuts in ([], [3, 60, 61, 150], list(range(1, 200))):
        heartbeat = Heartbeat(window=50)
        for chosen in np.split(np.arange(200), cuts):
            pushed(heartbeat, ranks[chosen].tolist(), fresh[chosen].tolist(), new[chosen].tolist())
        window = heartbeat.figures().window
        for name, member in (("all", np.ones(200, np.bool_)), ("fresh_items", fresh), ("new_users", new)):
            last = rank_gains(ranks[150:][member[150:]])
            assert window[name].events == len(last)
            assert (window[name].hit_rate, window[name].ndcg, window[name].mrr) == pytest.approx(last[:, 1:].mean(0))


def test_a_fading_figure_is_the_weighted_mean_of_its_series() -> None:
    """A batch would weigh as one target, or a series fade by targets of others."""
    heartbeat, hits = Heartbeat(), [True, False, True, True, False]
    for part in (slice(0, 2), slice(2, 5)):
        ranks = [1.0 if hit else 99.0 for hit in hits[part]]
        pushed(heartbeat, [*ranks, 99.0], [True] * len(ranks) + [False], [False] * (len(ranks) + 1))
    weights = FADING ** np.arange(4, -1, -1)
    fresh = heartbeat.figures().fading["fresh_items"]
    assert fresh.events == pytest.approx(weights.sum())
    assert fresh.hit_rate == pytest.approx((weights * hits).sum() / weights.sum())
    assert math.isnan(heartbeat.figures().fading["new_users"].hit_rate)


def test_fresh_items_and_new_users_are_told_from_the_stream() -> None:
    """A series would hold the wrong targets: old items, items that no one could rank, users who are known."""
    learner, histories = learner_factory(), Histories()
    events = [
        ("a", "x", 0, 1),  # a new user; x was never there before: no candidate, so not fresh
        ("a", "y", 60_000, 1),  # neither
        ("b", "x", 120_000, 0),  # shown only
        ("b", "x", HOUR_MS - 1_000, 1),  # a new user, and x is less than an hour old
        ("b", "y", HOUR_MS + 60_000, 1),  # y is an hour old
    ]
    feed(learner, [Interaction(*event) for event in events], histories, batch_events=1)
    total = learner.heartbeat.figures().total
    assert (total["all"].events, total["fresh_items"].events, total["new_users"].events) == (4, 1, 2)


def test_a_cleared_row_is_as_old_as_its_next_item() -> None:
    """An item in a slot that was another's would not count as fresh."""
    heartbeat = Heartbeat()
    heartbeat.note(np.array([0, 3_000]), np.array([5, 5]))
    heartbeat.clear(np.array([3_000]))
    heartbeat.note(np.array([0, 3_000]), np.array([9, 9]))
    assert heartbeat.state(3_001)["heartbeat.first_ms"][[0, 3_000]].tolist() == [5, 9]


def test_window_figures_of_labels_are_of_the_last_ones() -> None:
    """An AUC of now would be that of the whole run."""
    heartbeat, logits, in_time = Heartbeat(window=4), np.array([3.0, -3.0, 3.0, -3.0]), np.zeros(4, np.bool_)
    heartbeat.update_labels(logits, np.array([False, True, False, True]), in_time)
    assert heartbeat.figures().auc == 0
    heartbeat.update_labels(logits, np.array([True, False, True, False]), in_time)
    assert heartbeat.figures().auc == 1
    assert heartbeat.figures().normalized_entropy == pytest.approx(np.log1p(np.exp(-3)) / np.log(2))


def test_a_late_label_takes_the_place_of_a_negative() -> None:
    """The figures of now would tell of more events, and of fewer actions, than there are."""
    logits, late = np.array([3.0, -3.0, 1.0]), np.array([False, False, True])
    one, other = Heartbeat(), Heartbeat()
    one.update_labels(logits, np.array([True, False, False]), np.zeros(3, np.bool_))
    one.update_labels(logits[late], late[late], late[late])
    other.update_labels(logits, np.array([True, False, True]), np.zeros(3, np.bool_))
    assert one.figures().auc == other.figures().auc == 1
    assert one.figures().normalized_entropy == pytest.approx(other.figures().normalized_entropy)


def test_the_whole_run_is_what_the_meter_counts() -> None:
    """Two figures of one thing would differ: repeats or the warm-up would be counted in one of them."""
    learner = learner_factory()
    learner.meter.count_from = learner.heartbeat.count_from = 64
    feed(learner, markov_stream(320), Histories())
    main, total = learner.meter.figures().main, learner.heartbeat.figures().total["all"]
    assert total.events == main.events < 256
    assert (total.hit_rate, total.ndcg, total.mrr) == pytest.approx((main.hit_rate, main.ndcg, main.mrr))


def test_a_restored_heartbeat_goes_on_bit_for_bit() -> None:
    """A restart would begin every window anew."""
    draws, one, other = np.random.default_rng(0), Heartbeat(window=40), Heartbeat(window=40)
    ranks, flags = draws.integers(1, 30, 60).astype(np.float64), draws.random(60) < 0.5
    one.note(np.arange(60), np.arange(60))
    pushed(one, ranks.tolist(), flags.tolist(), flags.tolist())
    one.update_labels(draws.normal(size=30), flags[:30], flags[30:])
    other.load(one.state(60))
    logits = draws.normal(size=60)
    for heartbeat in (one, other):
        heartbeat.note(np.array([70, 2]), np.array([1, 1]))
        pushed(heartbeat, ranks.tolist(), flags.tolist(), flags.tolist())
        heartbeat.update_labels(logits, flags, flags)
    for name, array in one.state(71).items():
        assert array.tobytes() == other.state(71)[name].tobytes(), name
