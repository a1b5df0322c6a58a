import numpy as np
import pytest
import torch

from model.token_order import TOKEN_ORDERS, InterleavedTokens, SummedTokens, TokenOrder
from model.user_features import NO_FEATURE
from model.window_batch import batch_windows
from model.windows import EncodedSequence, cut_windows, group_starts

SUMMED, INTERLEAVED = SummedTokens(), InterleavedTokens()


def encoded(new: np.ndarray, groups: np.ndarray | None = None) -> EncodedSequence:
    count = len(new)
    place = np.full(count, -1)
    place[new != 0] = np.arange(np.count_nonzero(new))
    return EncodedSequence(
        rows=np.arange(count),
        seconds=np.arange(count) * 60,
        actions=np.ones(count, np.int64),
        keys=np.arange(count),
        features=np.full((count, 2), NO_FEATURE),
        group_starts=group_starts(np.arange(count) if groups is None else groups),
        new=new,
        place=place,
    )


@pytest.mark.parametrize("order", TOKEN_ORDERS.values(), ids=TOKEN_ORDERS)
@pytest.mark.parametrize(("context", "burst"), [(0, 1), (0, 500), (14, 40), (15, 1), (31, 90), (110, 3), (700, 200)])
def test_every_new_event_is_a_target_of_exactly_one_window_with_its_context(
    context: int, burst: int, order: TokenOrder
) -> None:
    """A burst longer than the window would be cut off, or learned twice."""
    sequence = encoded(np.r_[np.zeros(context, np.int64), np.full(burst, 3)])
    windows = cut_windows(sequence, 128, order)
    most_context = 127 // order.tokens_per_event - 16
    covered = np.concatenate([window.sequence.rows[window.targets] for window in windows])
    assert covered.tolist() == list(range(context, context + burst))
    for window in windows:
        assert order.tokens_per_event * window.end <= window.length - 1 <= 127
        assert len(window.targets) <= 32
        for target in window.targets:
            assert min(window.sequence.rows[target], most_context) <= target


@pytest.mark.parametrize("order", TOKEN_ORDERS.values(), ids=TOKEN_ORDERS)
def test_an_event_has_the_same_window_start_and_length_whatever_comes_after_it(order: TokenOrder) -> None:
    """Context that depended on later events would leak the future into a score."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        new = np.where(rng.random(400) < rng.choice([0.1, 0.5, 0.95]), 3, 0)
        whole, cut = spans(new, order), int(rng.integers(1, 400))
        assert spans(new[:cut], order) == {target: span for target, span in whole.items() if target < cut}


def spans(new: np.ndarray, order: TokenOrder) -> dict[int, tuple[int, int]]:
    """Where the window of each target begins, and how long it is."""
    found: dict[int, tuple[int, int]] = {}
    for window in cut_windows(encoded(new), 128, order):
        rows = window.sequence.rows.tolist()
        found |= {rows[target]: (rows[0], window.length) for target in window.targets.tolist()}
    return found


def test_a_target_reads_and_sees_only_tokens_before_its_group() -> None:
    """Items shown together happened together: none may tell about another."""
    sequence = encoded(np.array([0, 0, 3, 3, 3, 3]), np.array([0, 1, 2, 2, 2, 9]))
    (window,) = cut_windows(sequence, 32, SUMMED)
    assert window.reads(window.targets, SUMMED).tolist() == [2, 2, 2, 5]
    batch = batch_windows([window], 32, SUMMED, torch.device("cpu"))
    assert batch.layout.end_T[32:36].tolist() == [3, 3, 3, 6]
    assert batch.layout.positions_T[32:36].tolist() == [3, 3, 3, 6]


def test_the_last_token_before_a_group_has_the_groups_time_as_query_time() -> None:
    """Retrieval and ranking of one event would otherwise see different clocks."""
    (window,) = cut_windows(encoded(np.array([0, 0, 3])), 32, SUMMED)
    queries_T = batch_windows([window], 32, SUMMED, torch.device("cpu")).layout.query_seconds_T
    assert queries_T[2] == queries_T[32] == 120


def test_items_of_a_group_come_before_its_actions() -> None:
    """An item that saw what was done with its neighbour would know what it is to tell."""
    sequence = encoded(np.array([0, 0, 3, 3, 3, 3]), np.array([0, 1, 2, 2, 2, 9]))
    (window,) = cut_windows(sequence, 64, INTERLEAVED)
    batch = batch_windows([window], 0, INTERLEAVED, torch.device("cpu"))
    tokens = [(row if has else None) for row, has in zip(batch.rows_T.tolist(), batch.has_item_T1[:, 0], strict=True)]
    assert tokens[:14] == [None, 0, None, 1, None, 2, 3, 4, None, None, None, 5, None, None]
    assert (batch.actions_T[:14] >= 0).nonzero().flatten().tolist() == [2, 4, 8, 9, 10, 12]
    assert batch.targets_E.tolist() == [5, 6, 7, 11]
    assert batch.reads_E.tolist() == [4, 4, 4, 10]
    assert batch.layout.end_T[batch.targets_E].tolist() == [6, 7, 8, 12]


def test_an_item_is_asked_at_its_own_time_and_an_action_at_the_next_ones() -> None:
    """The query time of what retrieval reads is that of the event to come, in both layouts."""
    (window,) = cut_windows(encoded(np.array([0, 0, 3])), 64, INTERLEAVED)
    queries_T = batch_windows([window], 0, INTERLEAVED, torch.device("cpu")).layout.query_seconds_T
    assert queries_T[:7].tolist() == [0, 0, 60, 60, 120, 120, 120]
