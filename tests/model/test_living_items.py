"""Rows that are taken back and given to other ids, through the whole step."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.admission_names import AdmissionName
from model.evaluation import Histories, Interaction
from model.online import OnlineLearner
from model.recommender import Recommender
from model.settings import ModelSettings
from tests.model.synthetic import LEARN, SMALL, feed, learner_factory, markov_stream

CROWDED = dataclasses.replace(LEARN, max_items=24)
"""Of the 60 items of the streams below, 24 can have a row at one time."""
SAMPLED = dataclasses.replace(SMALL, exact_softmax_rows=20, num_negatives=8)


def assert_nothing_is_left(learner: OnlineLearner) -> None:
    """Nowhere is there anything of a row that is nobody's, nor of an id without a row."""
    model, trainer = learner.state()
    live = np.flatnonzero(model["items.live"])
    dead = np.setdiff1d(np.arange(1, len(model["items.live"])), live)
    empty = {"memory.successors": -1}
    by_row = {name: array for name, array in (model | trainer).items() if re.match(r"(items|rates.items|memory)", name)}
    for name, array in (by_row | {"popularity.raw": trainer["popularity.raw"]}).items():
        if len(array) == len(model["items.live"]):
            assert (array[dead] == empty.get(name, 0)).all() or name == "items.id_ends", name
    assert np.isin(model["memory.successors"], [-1, *live]).all()


@pytest.mark.parametrize("model", [SMALL, SAMPLED], ids=["exact", "sampled"])
@given(seed=st.integers(0, 1_000))
@settings(max_examples=8, deadline=None)
def test_nothing_of_an_evicted_id_is_left_for_the_next_owner_of_its_row(model: ModelSettings, seed: int) -> None:
    """The newborn would be recommended after what the dead one followed, and learn as slowly as it did at last."""
    learner, histories, stream = learner_factory(model, CROWDED), Histories(), markov_stream(320, seed=seed)
    for start in range(0, len(stream), 32):
        learner.step(histories.extend(stream[start : start + 32]))
        assert learner.num_items <= CROWDED.max_items
        assert_nothing_is_left(learner)
    assert learner.num_evicted > 20
    assert learner.num_skipped == 0


def test_scores_do_not_depend_on_later_events_where_rows_are_taken_back() -> None:
    """An id that is admitted again later in the batch would change how the context of earlier events is read."""
    stream, other = markov_stream(320, seed=1), markov_stream(320, seed=2)
    other = [dataclasses.replace(event, ts_ms=early.ts_ms) for event, early in zip(other, stream, strict=True)]
    whole = feed(learner_factory(SMALL, CROWDED), stream, Histories())
    for cut in (170, 205, 290):
        mixed = feed(learner_factory(SMALL, CROWDED), stream[:cut] + other[cut:], Histories())
        assert mixed[:cut].tobytes() == whole[:cut].tobytes()


@pytest.mark.parametrize("admission", ["always", "seen", "probabilistic"])
def test_a_restored_learner_goes_on_bit_for_bit_where_rows_are_taken_back(admission: AdmissionName) -> None:
    """After a restart, ids would get other rows, or others would be admitted."""
    learn = dataclasses.replace(CROWDED, admission=admission)
    stream, histories, stopped_histories = markov_stream(320), Histories(), Histories()
    learner, stopped = learner_factory(SMALL, learn), learner_factory(SMALL, learn)
    ranks = feed(learner, stream, histories)
    feed(stopped, stream[:160], stopped_histories)
    restored = OnlineLearner.restore(SMALL, learn, *stopped.state())
    assert feed(restored, stream[160:], stopped_histories).tobytes() == ranks[len(ranks) // 2 :].tobytes()
    for mine, its in zip(learner.state(), restored.state(), strict=True):
        assert {name: array.tobytes() for name, array in mine.items()} == {
            name: array.tobytes() for name, array in its.items()
        }


def test_an_evicted_id_is_never_answered_and_a_reused_row_answers_to_its_new_name() -> None:
    """Serving would name an item that is gone, or another's."""
    learner, histories, stream = learner_factory(SMALL, CROWDED), Histories(), markov_stream(320)
    feed(learner, stream, histories)
    model, _ = learner.state()
    recommender = Recommender.from_state(SMALL, model)
    (sequence,) = histories.extend([stream[-1]])
    answer = [item_id for item_id, _ in recommender.recommend(sequence, now_ms=400_000, k=100)]
    assert len(answer) == len(set(answer)) <= recommender.num_items == learner.num_items <= CROWDED.max_items
    assert "" not in answer
    assert all(recommender.contains(item_id) for item_id in answer)


def test_an_id_that_did_not_come_for_its_time_to_live_loses_its_row() -> None:
    """Items that are long gone would be recommended for ever."""
    learner, histories = learner_factory(SMALL, dataclasses.replace(LEARN, item_ttl_days=1.0)), Histories()
    learner.step(histories.extend([Interaction("u", "old", 0, 1), Interaction("u", "kept", 0, 1)]))
    day = 86_400_000
    for number in range(1, 320):
        events = [Interaction(f"u{number}", "kept", number * day // 100, 1) for _ in range(32)]
        learner.step(histories.extend(events))
    model, _ = learner.state()
    recommender = Recommender.from_state(SMALL, model)
    assert (recommender.contains("old"), recommender.contains("kept"), learner.num_evicted) == (False, True, 1)


def test_an_id_without_a_row_is_read_by_what_its_shared_rows_learn() -> None:
    """All ids that are not admitted would be one, and what is learned of them lost when they are."""
    learn = dataclasses.replace(LEARN, admission="seen", admit_after=255)
    learner, histories = learner_factory(SMALL, learn), Histories()
    stream = markov_stream(960, num_items=8)
    for start in range(0, len(stream), 32):
        report = learner.step(histories.extend(stream[start : start + 32]))
        assert not np.isfinite(report.targets.ranks).any()
    assert learner.num_items == 0
    arrays, _ = learner.state()
    odds = Recommender.from_state(SMALL, arrays).rank(
        histories.extend([Interaction("new", "i0", 2_000_000, 1)])[0], now_ms=2_000_000, item_ids=["i0", "i1"]
    )
    assert odds[0]["like"] > odds[1]["like"] + 0.1
