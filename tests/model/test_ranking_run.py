import math

import numpy as np
import pytest

from model.ranking_run import RankingRun, ranking_figures
from tests.model.synthetic import LEARN, SMALL, markov_stream


def test_a_run_that_goes_on_from_its_state_gives_the_same_odds_to_the_last_bit() -> None:
    """Resuming would give other figures than running through."""
    stream = markov_stream(160)
    through, first, second = (RankingRun(SMALL, LEARN) for _ in range(3))
    for start in (0, 80):
        through.feed(stream[start : start + 80])
    first.feed(stream[:80])
    second.load(first.state(), stream[:80])
    second.feed(stream[80:])
    assert through.logits_EA.shape == (160, 3)
    assert np.array_equal(second.logits_EA, through.logits_EA)


def test_odds_stand_in_the_order_of_the_stream() -> None:
    """Events of one user lie together in a micro-batch; their odds must not be another's."""
    stream = markov_stream(2_000)
    run = RankingRun(SMALL, LEARN)
    run.feed(stream)
    liked = np.array([event.actions for event in stream[1_000:]]) == 1
    # In this stream an item is always liked or never: odds in another order would be no better than chance.
    assert ranking_figures(run.logits_EA[1_000:, 0].astype(np.float64), liked)["auc"] > 0.9


def test_the_interval_is_hanley_and_mcneil_s() -> None:
    """Two rankers would be told apart by noise."""
    draws = np.random.default_rng(0)
    samples = []
    for _ in range(300):
        labels = np.arange(200) < 60
        figures = ranking_figures(draws.normal(size=200) + labels, labels)
        samples.append((figures["auc"], figures["auc_half_width"]))
    auc, half_width = np.array(samples).T
    assert np.mean(half_width) == pytest.approx(1.96 * np.std(auc), rel=0.15)


def test_without_one_of_the_labels_there_is_no_figure() -> None:
    """A rare action may be absent from a part of the stream."""
    assert all(math.isnan(value) for value in ranking_figures(np.zeros(5), np.zeros(5)).values())
