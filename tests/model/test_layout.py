import numpy as np
import pytest

from model.layout import Layout, Run, next_seconds, sequence_layout


def test_targets_a_prefix_and_a_local_window_become_intervals_of_keys() -> None:
    """An interval off by one shows a token the future, or hides its newest event."""
    layout = sequence_layout(
        np.array([0, 7]),
        np.zeros(7, np.int64),
        np.zeros(7, np.int64),
        num_targets=np.array([2]),
        target_ends=np.array([3, 5]),
        num_prefix=np.array([2]),
        local_window=2,
    )
    assert layout.first_T.tolist() == [0, 0, 0, 0, 2, 0, 3]
    assert layout.end_T.tolist() == [5, 5, 3, 4, 5, 3, 5]
    assert layout.positions_T.tolist() == [0, 1, 2, 3, 4, 3, 5]


def test_a_run_is_neighbours_of_equal_length_and_equal_number_of_targets() -> None:
    """Sequences worked on together with others of another shape would read their keys."""
    zeros = np.zeros(14, np.int64)
    layout = sequence_layout(np.array([0, 3, 6, 9, 14]), zeros, zeros, num_targets=np.array([0, 0, 1, 0]))
    assert layout.runs == (Run(0, 2, 3, 3), Run(6, 1, 3, 2), Run(9, 1, 5, 5))
    assert layout.last_history().tolist() == [2, 5, 7, 13]


def test_without_ends_of_their_own_targets_see_the_whole_history() -> None:
    """Candidates of a request are asked about at one time, now."""
    zeros = np.zeros(7, np.int64)
    layout = sequence_layout(np.array([0, 3, 7]), zeros, zeros, num_targets=np.array([1, 2]))
    assert layout.end_T.tolist() == [1, 2, 2, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": np.array([0, 2, 2])}, "no sequence is empty"),
        ({"seconds_T": np.zeros(2, np.int64)}, "one entry for each of 3 tokens"),
        ({"end_T": np.array([1, 2, 4])}, "within each sequence's history"),
        ({"end_T": np.array([1, 1, 3])}, "must see itself"),
        ({"positions_T": np.array([0, 1, 1])}, "its position must be its index"),
    ],
)
def test_what_is_no_layout_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    """Attention reads memory by these numbers."""
    columns = {
        "offsets": np.array([0, 3]),
        "num_history": np.array([3]),
        "seconds_T": np.arange(3),
        "query_seconds_T": np.arange(3),
        "positions_T": np.arange(3),
        "first_T": np.zeros(3, np.int64),
        "end_T": np.arange(1, 4),
    }
    Layout(**columns)
    with pytest.raises(ValueError, match=message):
        Layout(**{**columns, **changes})


def test_the_last_query_time_of_each_sequence_is_the_one_given() -> None:
    """The next user's first event would be taken for what a user is asked about."""
    offsets = np.array([0, 2, 3])
    assert next_seconds(offsets, np.array([1, 2, 50]), np.array([3, 60])).tolist() == [2, 3, 60]
