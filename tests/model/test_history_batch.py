import numpy as np
import pytest
import torch

from model.corpus import Corpus
from model.history_batch import HistoryBatch, history_batch, usable_users
from tests.model.histories import corpus_factory

CPU = torch.device("cpu")


def batch_factory(corpus: Corpus, users: list[int], left_out: int, *, last_only: bool = False) -> HistoryBatch:
    users_B = np.array(users)
    return history_batch(corpus, users_B, left_out=left_out, max_history=18, last_only=last_only, device=CPU)


def test_each_token_predicts_the_next_event_at_its_time() -> None:
    """A shift by one would let the model see what it predicts, or predict what it has seen."""
    corpus = corpus_factory()
    batch = batch_factory(corpus, [0, 3], 1)
    own = corpus.items_T[corpus.offsets[3] : corpus.offsets[4]]
    reads = batch.reads_P[batch.users_P == 3]
    assert batch.items_T[reads].tolist() == own[:5].tolist()
    assert batch.targets_P[batch.users_P == 3].tolist() == own[1:6].tolist()
    seconds = corpus.seconds_T[corpus.offsets[3] : corpus.offsets[4]]
    assert batch.layout.seconds_T[reads].tolist() == seconds[:5].tolist()
    assert batch.layout.query_seconds_T[reads].tolist() == seconds[1:6].tolist()
    assert np.count_nonzero(batch.users_P == 0) == 2


@pytest.mark.parametrize("left_out", [0, 1])
def test_the_last_event_is_seen_by_the_test_alone(left_out: int) -> None:
    """Learning from the test's targets is the worst thing that an evaluation can do."""
    corpus = corpus_factory()
    batch = batch_factory(corpus, usable_users(corpus, left_out).tolist(), left_out)
    for user in usable_users(corpus, left_out):
        last = int(corpus.items_T[corpus.offsets[user + 1] - 1])
        mine = batch.users_P == user
        assert (last in batch.targets_P[mine].tolist()) == (left_out == 0)
        assert last not in batch.items_T[batch.reads_P[mine]].tolist()


def test_a_long_history_is_cut_at_its_old_end() -> None:
    """The newest events say most."""
    corpus = corpus_factory()
    batch = batch_factory(corpus, [2], 0, last_only=True)
    own = corpus.items_T[corpus.offsets[2] : corpus.offsets[3]]
    assert batch.layout.num_tokens == 18
    assert batch.items_T.tolist() == own[1:19].tolist()
    assert (batch.reads_P.tolist(), batch.targets_P.tolist()) == ([17], [own[19]])


def test_padding_lies_behind_a_history_and_predicts_nothing() -> None:
    """Padding before it, or read from, would change what is predicted."""
    batch = batch_factory(corpus_factory(), [0, 3, 4], 0)
    assert batch.layout.offsets.tolist() == [0, 16, 32, 48]
    assert batch.users_P.tolist() == [4, *[0] * 3, *[3] * 6]
    is_padding = batch.items_T == 0
    assert not is_padding[batch.reads_P].any()
    assert int((~is_padding).sum()) == len(batch.reads_P)


def test_who_has_too_few_events_is_left_out() -> None:
    """A user without a history before the target has nothing to predict from."""
    corpus = corpus_factory()
    assert usable_users(corpus, 0).tolist() == [0, 2, 3, 4]
    assert usable_users(corpus, 1).tolist() == [0, 2, 3]


def test_of_a_shortened_history_each_token_predicts_the_next_one_that_stays() -> None:
    """A gap in the history would be filled by a target that the tokens do not lead to."""
    corpus = corpus_factory()
    users = np.array([2, 3])
    batch = history_batch(
        corpus, users, left_out=0, max_history=18, last_only=False, device=CPU, choose=lambda seconds: np.array([1, 4])
    )
    own = np.arange(corpus.offsets[3], corpus.offsets[4])
    reads = batch.reads_P[batch.users_P == 3].numpy()
    assert batch.items_T[reads].tolist() == corpus.items_T[own[[1, 4]]].tolist()
    assert batch.targets_P[batch.users_P == 3].tolist() == corpus.items_T[own[[4, -1]]].tolist()
    assert batch.layout.query_seconds_T[reads].tolist() == corpus.seconds_T[own[[4, -1]]].tolist()
    assert len(batch.reads_P) == 4
