import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from model.evaluation import Histories, Interaction
from model.objective import Objective, Pass
from model.prequential import NUM_BINS, PrequentialMeter, Targets, candidate_ranks
from model.settings import ModelSettings
from tests.model.synthetic import SMALL, feed, learner_factory, markov_stream


def targets_of(numbers: list[int], ranks: list[float], *, repeat: bool = False) -> Targets:
    count = len(numbers)
    return Targets(
        numbers=np.array(numbers),
        ranks=np.array(ranks),
        popularity_ranks=np.full(count, 20.0),
        positive=np.arange(count) % 2 == 0,
        repeat=np.full(count, repeat),
    )


def test_rank_is_one_plus_the_greater_plus_half_the_other_equal_ones() -> None:
    """A rule that puts the target before its ties rewards a model that cannot tell items apart."""
    scores = np.array([[5.0, 3.0, 3.0, 3.0, 1.0]] * 4)
    everything = np.ones((4, 5), dtype=np.bool_)
    assert candidate_ranks(scores, np.array([0, 1, 3, 4]), everything).tolist() == [1, 3, 3, 5]


def test_items_that_are_no_candidates_do_not_count_and_a_target_that_is_none_is_a_miss() -> None:
    """Seen items in front of the target, or targets from nowhere, would change the figures unnoticed."""
    scores = np.array([[5.0, 3.0, 4.0]] * 2)
    candidates = np.array([[False, True, True], [True, False, True]])
    assert candidate_ranks(scores, np.array([1, 1]), candidates).tolist() == [2, np.inf]


def test_a_score_that_is_not_finite_is_a_miss_and_never_helps_the_target() -> None:
    """A model full of NaN would have every target first."""
    everything = np.ones((1, 3), dtype=np.bool_)
    for bad in (np.nan, np.inf, -np.inf):
        assert np.isnan(candidate_ranks(np.array([[bad, 1.0, 2.0]]), np.array([0]), everything)).all()
    assert candidate_ranks(np.array([[1.0, np.nan, np.nan]]), np.array([0]), everything).tolist() == [3]
    assert candidate_ranks(np.array([[1.0, np.inf, -np.inf]]), np.array([0]), everything).tolist() == [2]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_constant_and_nan_scores_rank_no_better_than_chance(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead model must look dead, through the whole step and not in the rank rule alone."""
    real = Objective.scores

    def dead(
        self: Objective, pass_: Pass, tile: slice, items: Tensor, counted_QIG: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        return np.full_like(real(self, pass_, tile, items, counted_QIG), value)

    monkeypatch.setattr(Objective, "scores", dead)
    learner = learner_factory()
    feed(learner, markov_stream(600), Histories())
    figures = learner.meter.figures()
    assert figures.main.hit_rate <= 10 / 60
    assert (figures.non_finite > 400) == bool(np.isnan(value))


def test_series_denominators_and_misses_add_up_by_hand() -> None:
    """A figure without its denominator cannot be compared."""
    meter = PrequentialMeter()
    meter.count_from = 2
    meter.update(targets_of([0, 1, 2, 3, 4, 5], [1, 1, 1, np.inf, np.nan, 4]))
    meter.update(targets_of([6], [2], repeat=True))
    meter.advance(7)
    figures = meter.figures()
    assert (figures.main.events, figures.positives.events, figures.repeats.events) == (4, 2, 1)
    assert figures.main.hit_rate == 2 / 4
    assert figures.main.mrr == (1 + 1 / 4) / 4
    assert figures.non_finite == 1
    assert figures.repeats.hit_rate == 1
    assert figures.main.popularity_hit_rate == 0
    assert figures.last_quarter.events == 0
    assert np.isnan(figures.last_quarter.hit_rate)


def test_the_last_quarter_and_the_totals_stay_right_when_bins_are_merged() -> None:
    """A long stream would lose its last quarter, or memory would grow with it."""
    meter = PrequentialMeter()
    total = 20 * NUM_BINS
    for start in range(0, total, 100):
        numbers = list(range(start, min(start + 100, total)))
        meter.update(targets_of(numbers, [1.0 if number >= total * 3 // 4 else 50.0 for number in numbers]))
        meter.advance(numbers[-1] + 1)
    figures = meter.figures()
    assert figures.main.events == total
    assert figures.main.hit_rate == 0.25
    assert figures.last_quarter.hit_rate == 1
    assert figures.last_quarter.events == total // 4
    assert sum(array.nbytes for array in meter.state().values()) < 200_000


def test_figures_since_the_last_report_cover_just_those_events() -> None:
    """A live line would show an average over the whole run."""
    meter = PrequentialMeter()
    meter.update(targets_of([0, 1], [1, 1]))
    assert meter.since_last().hit_rate == 1
    meter.update(targets_of([2, 3, 4], [50, 50, 1]))
    recent = meter.since_last()
    assert (recent.events, recent.hit_rate) == (3, 1 / 3)
    assert meter.since_last().events == 0


def noise_after(stream: list[Interaction], cut: int) -> list[Interaction]:
    rng = np.random.default_rng(9)
    noise = [
        Interaction(f"u{rng.integers(40)}", f"noise{rng.integers(500)}", 1_000 * number, int(rng.integers(0, 8)))
        for number in range(cut, len(stream))
    ]
    return stream[:cut] + noise


def scores(settings: ModelSettings, stream: list[Interaction]) -> np.ndarray:
    """Rank (NaN where it is no target) and log odds of each event, one row an event."""
    learner, histories = learner_factory(settings), Histories()
    reports = [learner.step(histories.extend(stream[start : start + 32])) for start in range(0, len(stream), 32)]
    ranks = np.full(len(stream), np.nan)
    for report in reports:
        ranks[report.targets.numbers] = report.targets.ranks
    return np.column_stack([ranks, np.concatenate([report.action_logits_EA for report in reports])])


@functools.cache
def scores_of_the_whole(settings: ModelSettings) -> np.ndarray:
    return scores(settings, markov_stream(224))


@pytest.mark.parametrize("layout", [{"window": 32}, {"window": 64, "layout": "interleaved"}], ids=str)
@pytest.mark.parametrize("exact_softmax_rows", [10_000, 10])
@pytest.mark.parametrize("cut", [1, 97, 204])
def test_scores_before_a_point_are_the_same_bytes_whatever_comes_after_it(
    cut: int, exact_softmax_rows: int, layout: dict[str, Any]
) -> None:
    """The proof that no score used the future, nor the company of its micro-batch."""
    stream = markov_stream(224)
    settings = dataclasses.replace(SMALL, exact_softmax_rows=exact_softmax_rows, dim=64, num_layers=2, **layout)
    whole = scores_of_the_whole(settings)[:cut].tobytes()
    assert scores(settings, stream[:cut]).tobytes() == whole
    assert scores(settings, noise_after(stream, cut)[: cut + 32])[:cut].tobytes() == whole


def test_candidates_are_items_with_an_event_strictly_earlier_inside_a_micro_batch_too() -> None:
    """An item's first event would find it among the candidates."""
    learner = learner_factory()
    events = [("a", "x"), ("b", "x"), ("b", "y"), ("c", "y"), ("c", "x"), ("a", "x")]
    stream = [Interaction(user, item, 1_000 * n, 1) for n, (user, item) in enumerate(events)]
    targets = learner.step(Histories().extend(stream)).targets
    assert targets.ranks[[0, 2]].tolist() == [np.inf, np.inf]
    assert targets.ranks[1] == 1
    assert targets.ranks[4] == 1  # y, which c acted on, is filtered
    assert targets.repeat.tolist() == [False] * 5 + [True]
    assert np.isfinite(targets.ranks[5])


def test_an_exposure_makes_an_item_a_candidate_but_neither_seen_nor_a_target() -> None:
    """An item that was only shown would be filtered out as if it had been clicked."""
    learner = learner_factory()
    stream = [
        Interaction("a", "x", 0, 0),
        Interaction("a", "y", 0, 0),
        Interaction("a", "x", 1_000, 1),
        Interaction("b", "x", 2_000, 0),
    ]
    report = learner.step(Histories().extend(stream))
    assert report.num_events == 4
    assert report.targets.numbers.tolist() == [2]
    assert report.targets.repeat.tolist() == [False]
    assert np.isfinite(report.targets.ranks).all()


def test_other_names_for_users_and_items_change_no_rank() -> None:
    """Ids are names: a model that reads anything into them would not work on another shop's."""
    stream = markov_stream(224)
    renamed = [
        dataclasses.replace(event, user_id=f"日{event.user_id}" * 30, item_id=f"\N{SNOWMAN}{event.item_id}" * 30)
        for event in stream
    ]
    settings = dataclasses.replace(SMALL, dim=64, num_layers=2)
    ranks = feed(learner_factory(settings), renamed, Histories())
    assert ranks.tobytes() == feed(learner_factory(settings), stream, Histories()).tobytes()
