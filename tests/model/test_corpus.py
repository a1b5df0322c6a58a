import numpy as np

from model.corpus import Corpus


def test_events_are_grouped_by_user_in_the_order_given() -> None:
    """Ties in time stand in the order of the file; another order is another task."""
    users, items = ["b", "a", "b", "a", "b"], ["x", "y", "z", "x", "x"]
    corpus = Corpus.from_events("made", users, items, np.array([5, 4, 3, 2, 1]))
    assert (corpus.num_users, corpus.num_items) == (2, 3)
    assert corpus.lengths.tolist() == [2, 3]
    assert corpus.items_T.tolist() == [2, 1, 1, 3, 1]
    assert corpus.seconds_T.tolist() == [4, 2, 5, 3, 1]
