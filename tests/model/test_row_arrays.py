import dataclasses

from model.evaluation import Histories
from model.row_arrays import ROW_ARRAYS
from tests.model.synthetic import LEARN, SMALL, feed, learner_factory, markov_stream

NUM_ROWS = 38
"""Rows of the table below, row 0 among them; no other dimension of the model."""


def test_these_arrays_and_no_others_have_a_row_for_each_of_the_table() -> None:
    """One that is missing is written whole with every version, however few of its rows changed."""
    learn = dataclasses.replace(LEARN, max_items=NUM_ROWS - 1)
    learner = learner_factory(SMALL, learn)
    feed(learner, markov_stream(320), Histories())
    assert learner.num_evicted > 0
    model, trainer = learner.state()
    assert len(model["items.id_ends"]) == NUM_ROWS
    by_row = {name for name, array in (model | trainer).items() if array.shape[:1] == (NUM_ROWS,)}
    assert by_row - {"items.id_ends"} == set(ROW_ARRAYS)
    assert len(ROW_ARRAYS) == len(set(ROW_ARRAYS))
