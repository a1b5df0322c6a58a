import dataclasses
import functools

import numpy as np
import pytest
import torch

from model.best_first import best_first
from model.evaluation import Histories
from model.online import OnlineLearner
from model.recommender import Recommender
from model.sequence import UserSequence
from model.settings import ModelSettings
from model.user_features import UserFeature
from tests.model.synthetic import SMALL, feed, learner_factory, markov_stream

STREAM = markov_stream(640)


INTERLEAVED = dataclasses.replace(SMALL, layout="interleaved", window=64)


@functools.cache
def learned(settings: ModelSettings) -> OnlineLearner:
    learner = learner_factory(settings)
    feed(learner, STREAM, Histories())
    return learner


@pytest.fixture
def learner() -> OnlineLearner:
    return learned(SMALL)


@pytest.fixture
def recommender(learner: OnlineLearner) -> Recommender:
    return Recommender.from_state(SMALL, learner.state()[0])


FEATURES = (
    UserFeature(-1, 0, "plan", "paid"),
    UserFeature(0, 0, "age", 30),
    UserFeature(12_500, 13, "age", 31),
    UserFeature(39_500, 40, "plan", "free"),
)
"""The last three of them lie between the first events, or behind them, as there are few or many."""


def known_after(count: int) -> tuple[UserFeature, ...]:
    return tuple(feature for feature in FEATURES if feature.place <= count)


def sequence_of(item_ids: list[str], actions: list[int] | None = None) -> UserSequence:
    count = len(item_ids)
    return UserSequence(
        user_id="u",
        item_ids=item_ids,
        ts_ms=np.arange(count, dtype=np.int64) * 1_000,
        actions=np.array(actions or [1] * count, np.int64),
        values=np.full(count, np.nan, np.float32),
        groups=np.arange(count, dtype=np.int64),
        new=np.zeros(count, np.int64),
        order=np.zeros(count, np.int64),
    )


def test_recommendations_leave_out_what_was_acted_on_and_what_is_unavailable(
    recommender: Recommender,
) -> None:
    """A film that one has just rated would be recommended again."""
    sequence = sequence_of(["i1", "i2", "i3"], [1, 0, 2])
    answer = recommender.recommend(sequence, now_ms=10_000, k=1_000, unavailable={"i4"})
    ids = [item_id for item_id, _ in answer]
    assert len(ids) == len(set(ids)) == recommender.num_items - 3
    assert not {"i1", "i3", "i4"} & set(ids)
    assert "i2" in ids
    scores = [score for _, score in answer]
    assert scores == sorted(scores, reverse=True)
    assert recommender.recommend(sequence, now_ms=10_000, k=5, unavailable={"i4"}) == answer[:5]


def test_a_user_without_history_and_items_without_a_row_are_answered(recommender: Recommender) -> None:
    """Strangers come first."""
    nobody = sequence_of([])
    assert len(recommender.recommend(nobody, now_ms=10_000, k=10)) == 10
    known, unknown = recommender.rank(nobody, now_ms=10_000, item_ids=["i1", "never seen"])
    assert known.keys() == unknown.keys() == set(SMALL.actions)
    assert all(0 < value < 1 for row in (known, unknown) for value in row.values())
    assert not recommender.contains("never seen")
    assert recommender.recommend(sequence_of(["never seen"]), now_ms=10_000, k=1)


@pytest.mark.parametrize("with_features", [False, True], ids=["events", "features"])
@pytest.mark.parametrize("settings", [SMALL, INTERLEAVED], ids=["targets", "interleaved"])
def test_what_is_served_equals_what_the_learner_scores_for_the_same_event(
    settings: ModelSettings, *, with_features: bool
) -> None:
    """Serving and training would see different windows, times or targets."""
    learner = learned(settings)
    recommender = Recommender.from_state(settings, learner.state()[0])
    for count in (0, 5, 14, 15, 40, 90):
        history = [f"i{number % 7}" for number in range(count)]
        known = known_after(count) if with_features else ()
        whole = dataclasses.replace(sequence_of([*history, "i50"]), features=known)
        whole.new[-1] = 3
        twin = OnlineLearner.restore(settings, learner.learn_settings, *learner.state())
        twin.frozen = True
        rank = twin.step([dataclasses.replace(whole, user_id=f"new{count}")]).targets.ranks[0]
        sequence = dataclasses.replace(sequence_of(history), features=known)
        served = recommender.recommend(sequence, now_ms=count * 1_000, k=1_000)
        assert [item_id for item_id, _ in served].index("i50") + 1 == rank


@pytest.mark.parametrize("settings", [SMALL, INTERLEAVED], ids=["targets", "interleaved"])
def test_served_probabilities_equal_what_the_learner_would_count(settings: ModelSettings) -> None:
    """The AUC that is reported would be another model's."""
    learner = learned(settings)
    recommender = Recommender.from_state(settings, learner.state()[0])
    twin = OnlineLearner.restore(settings, learner.learn_settings, *learner.state())
    twin.frozen = True
    history = ["i1", "i2", "i3"]
    whole = dataclasses.replace(sequence_of([*history, "i50"]), features=known_after(3))
    whole.new[-1] = 3
    (logits_A,) = twin.step([dataclasses.replace(whole, user_id="somebody")]).action_logits_EA
    sequence = dataclasses.replace(sequence_of(history), features=known_after(3))
    (served,) = recommender.rank(sequence, now_ms=3_000, item_ids=["i50"])
    assert list(served.values()) == pytest.approx(torch.sigmoid(torch.from_numpy(logits_A)).tolist(), abs=1e-6)


def test_ranking_an_item_does_not_depend_on_the_other_items(recommender: Recommender) -> None:
    """Candidates share a history and must not see each other."""
    sequence = sequence_of(["i1", "i2", "i3"])
    ids = [f"i{number}" for number in range(50)]
    together = recommender.rank(sequence, now_ms=10_000, item_ids=ids)
    for place in (0, 31, 32, 49):
        (alone,) = recommender.rank(sequence, now_ms=10_000, item_ids=[ids[place]])
        assert alone == pytest.approx(together[place], abs=1e-6)
    assert recommender.rank(sequence, now_ms=10_000, item_ids=[]) == []


def test_ranking_has_learned_which_items_are_liked(recommender: Recommender) -> None:
    """Probabilities in the wrong order of actions would look plausible."""
    rows = recommender.rank(sequence_of(["i1"], [2]), now_ms=5_000, item_ids=[f"i{number}" for number in range(60)])
    likes = np.array([row["like"] for row in rows])
    assert likes[::2].mean() > likes[1::2].mean() + 0.1


def test_questions_change_nothing(recommender: Recommender) -> None:
    """Threads share one recommender."""
    sequence = sequence_of(["i1", "i2"])
    columns = [column.copy() for column in (sequence.ts_ms, sequence.actions, sequence.groups)]
    weight = recommender._weight.clone()
    first = recommender.recommend(sequence, now_ms=10_000, k=10)
    recommender.rank(sequence, now_ms=10_000, item_ids=["i1", "new"])
    assert recommender.recommend(sequence, now_ms=10_000, k=10) == first
    assert torch.equal(recommender._weight, weight)
    for before, after in zip(columns, (sequence.ts_ms, sequence.actions, sequence.groups), strict=True):
        assert np.array_equal(before, after)


def test_a_model_that_has_seen_nothing_answers_with_nothing() -> None:
    """The first snapshot may come before the first item."""
    empty = Recommender.from_state(SMALL, learner_factory().state()[0])
    assert empty.recommend(sequence_of([]), now_ms=0, k=5) == []
    assert empty.recommend(sequence_of(["x", "y"]), now_ms=9_000, k=5) == []
    assert len(empty.rank(sequence_of(["x"]), now_ms=0, item_ids=["y"])) == 1


def test_k_below_one_and_rows_of_another_width_are_refused(learner: OnlineLearner) -> None:
    """A wrong question must not look like an empty answer."""
    arrays = learner.state()[0]
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        Recommender.from_state(SMALL, arrays).recommend(sequence_of([]), now_ms=0, k=0)
    with pytest.raises(ValueError, match=r"items\.weight and items\.live must have shapes"):
        Recommender.from_state(SMALL, {**arrays, "items.weight": arrays["items.weight"][:-1]})


def test_best_first_is_a_stable_sort_whatever_is_asked() -> None:
    """Which of equal items is recommended must not depend on how many were asked for; NaN comes last."""
    rng = np.random.default_rng(0)
    for size in [0, 1, *rng.integers(2, 60, 200).tolist()]:
        scores = rng.integers(0, 8, size).astype(np.float32)
        scores[rng.random(size) < 0.1] = -np.inf
        expected = np.argsort(-scores, kind="stable").tolist()
        for count in (1, 3, 100):
            assert list(best_first(scores, count)) == expected
    assert list(best_first(np.array([1.0, np.nan, 2.0], np.float32), 1)) == [2, 0, 1]


def test_the_parts_of_an_item_s_score_add_up_to_what_it_is_retrieved_by(recommender: Recommender) -> None:
    """What explains a list would be of another one."""
    sequence = sequence_of([f"i{number}" for number in range(12)])
    best = recommender.recommend(sequence, now_ms=20_000, k=1_000)
    ids = [item_id for item_id, _ in best]
    scores = recommender.scores(sequence, now_ms=20_000, item_ids=ids)
    assert [score.total for score in scores] == pytest.approx([score for _, score in best], abs=1e-4)
    assert all(score.has_row and score.popularity > 0 for score in scores)
    followers = [item_id for item_id, score in zip(ids, scores, strict=True) if score.transitions]
    assert 0 < len(followers) < len(ids)


def test_an_item_without_a_row_is_scored_by_what_it_shares(learner: OnlineLearner) -> None:
    """An item of today could not be compared with the others, or would be as popular as row 0."""
    arrays = dict(learner.state()[0])
    shape = arrays["dense.shared_items"].shape
    arrays["dense.shared_items"] = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    recommender = Recommender.from_state(SMALL, arrays)
    sequence = sequence_of(["i1", "i2"])
    known, new, other = recommender.scores(sequence, now_ms=20_000, item_ids=["i5", "new", "other"])
    assert known.has_row
    assert not new.has_row
    assert (new.popularity, new.transitions) == (0, 0)
    assert new.similarity not in (other.similarity, known.similarity)
    assert recommender.scores(sequence, now_ms=20_000, item_ids=["new"])[0].similarity == pytest.approx(new.similarity)
    assert recommender.scores(sequence, now_ms=20_000, item_ids=[]) == []
