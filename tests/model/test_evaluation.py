import functools

import numpy as np
import pytest

from model.evaluation import Histories, Interaction, PrequentialReport, prequential_run
from model.online import OnlineLearner
from model.sequence import NEW_ACTION, NEW_EXPOSURE
from model.settings import LearnSettings
from tests.model.synthetic import SMALL, learner_factory, markov_stream


@functools.cache
def run(freeze_after: float | None = None) -> PrequentialReport:
    stream = markov_stream(2_400, num_items=60, period=800)
    learner = OnlineLearner(SMALL, LearnSettings(batch_events=32, replay_events=100))
    return prequential_run(learner, stream, total=len(stream), freeze_after=freeze_after, ranks=[])


def test_the_model_beats_popularity_on_walks_and_a_frozen_one_does_not() -> None:
    """A system that scores as well frozen is counting, not learning."""
    learned, frozen = run(), run(0.1)
    assert learned.hit_rate_last_quarter > 2 * learned.popularity_hit_rate_last_quarter
    assert frozen.hit_rate_last_quarter < 1.5 * frozen.popularity_hit_rate_last_quarter
    assert learned.auc > 0.8
    # 240 events are 7 whole batches and one that ends where the learner is frozen.
    assert (frozen.steps, learned.steps, learned.skipped_steps) == (8, 75, 0)


def test_frozen_and_unfrozen_runs_have_the_same_bar_and_denominators() -> None:
    """A comparison over different events or candidates would be none."""
    learned, frozen = run(), run(0.1)
    assert learned.popularity_hit_rate == frozen.popularity_hit_rate
    assert learned.events_scored == frozen.events_scored
    assert learned.events_ranked == frozen.events_ranked == 2_160
    early = [rank.rank for rank in learned.ranks if rank.event < 240]
    assert early == [rank.rank for rank in frozen.ranks if rank.event < 240]


def test_the_ranks_that_are_kept_give_the_figures_of_the_report() -> None:
    """The published file and the published figure would tell different stories."""
    report, seen = run(), set[tuple[str, str]]()
    hits, count = 0, 0
    for rank in report.ranks:
        pair = (rank.user_id, rank.item_id)
        if rank.event >= 240 and pair not in seen:
            hits, count = hits + (rank.rank <= 10), count + 1
        seen.add(pair)
    assert (count, hits / count) == (report.events_scored, report.hit_rate)
    assert report.events_scored + report.repeats.events == 2_160
    assert [rank.event for rank in report.ranks] == list(range(2_400))


def test_histories_hold_the_newest_events_and_mark_just_the_new_ones() -> None:
    """An event that stayed new would be learned again and again; one in two groups would see itself."""
    histories = Histories(num_events=3)
    for number in range(5):
        histories.extend([Interaction("u", f"i{number}", number, 1)])
    batch = [Interaction("v", "x", 8, 0, group=4), Interaction("u", "a", 9, 1), Interaction("u", "b", 9, 0)]
    other, sequence = histories.extend(batch)
    assert (other.user_id, other.groups.tolist(), other.new.tolist()) == ("v", [4], [NEW_EXPOSURE])
    assert sequence.item_ids == ["i2", "i3", "i4", "a", "b"]
    assert sequence.new.tolist() == [0, 0, 0, NEW_EXPOSURE | NEW_ACTION, NEW_EXPOSURE]
    assert sequence.order[3:].tolist() == [1, 2]
    assert len(np.unique(sequence.groups)) == 5


def test_shares_outside_zero_and_one_are_refused() -> None:
    """`--freeze-after 10` would be taken for never."""
    with pytest.raises(ValueError, match=r"freeze_after must be in \[0, 1\], got 10"):
        prequential_run(learner_factory(), [], total=0, freeze_after=10)
    with pytest.raises(ValueError, match=r"warm_up must be in \[0, 1\], got -1"):
        prequential_run(learner_factory(), [], total=0, warm_up=-1)


def test_progress_is_told_after_each_step() -> None:
    """A run of minutes would show nothing."""
    told = list[int]()
    stream = markov_stream(100)
    prequential_run(learner_factory(), stream, total=100, progress=lambda count, _: told.append(count))
    assert told == [32, 64, 96, 100]
