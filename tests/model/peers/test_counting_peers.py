"""Markov counts, item-kNN, VS-kNN and ISGD on streams that are small enough to count by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from model.metrics import Floats
from model.peers.isgd import ISGD, ISGDSettings
from model.peers.item_knn import ItemKNN
from model.peers.markov import Markov
from model.peers.pair_counts import PairCounts
from model.peers.peer import Peer, Visit
from model.peers.vs_knn import VSKNN, VSKNNSettings


def learn(peer: Peer, walks: Sequence[tuple[int, Sequence[int]]]) -> None:
    """Each user's walk, one after the other."""
    for user, items in walks:
        for place, item in enumerate(items):
            peer.learn([Visit(0, user, item, np.array(items[:place], np.int64))])


def scores(peer: Peer, user: int, history: Sequence[int], num_items: int) -> Floats:
    """Without what breaks ties."""
    visit = Visit(0, user, 0, np.array(history, np.int64))
    found: Floats = np.round(peer.scores([visit], num_items)[0], 2)
    return found


def test_markov_weighs_what_followed_by_how_recent_it_was() -> None:
    """Counts of the wrong direction or weights of the wrong end would still look like Markov counts."""
    peer = Markov()
    learn(peer, [(0, [0, 1, 2]), (1, [0, 2])])
    assert scores(peer, 2, [0], 4).tolist() == [0, 1, 2, 0]
    assert scores(peer, 2, [1], 4).tolist() == [0, 0, 1, 0]
    # What followed 1, the newest, and half of what followed 0.
    assert scores(peer, 2, [0, 1], 4).tolist() == [0, 0.5, 1 + 2 / 2, 0]


def test_markov_looks_five_distinct_items_back() -> None:
    """A sixth item, or one that comes twice, would count."""
    peer = Markov()
    learn(peer, [(0, [7, 1, 2, 3, 4, 5, 6])])
    assert scores(peer, 1, [7], 8).tolist() == [0, 1, 1, 1, 1, 1, 0, 0]
    assert scores(peer, 1, [1], 8)[6] == 1
    assert scores(peer, 1, [7, 7, 7], 8)[1] == 1


@pytest.mark.parametrize("peer", [Markov(), ItemKNN(), VSKNN()], ids=lambda peer: type(peer).__name__)
def test_without_a_history_popularity_decides(peer: Peer) -> None:
    """Everybody's first event would be a tie of all items."""
    learn(peer, [(0, [0]), (1, [1]), (2, [1]), (3, [2])])
    found = peer.scores([Visit(0, 9, 0, np.zeros(0, np.int64))], 4)[0]
    assert np.argsort(-found).tolist() == [1, 2, 0, 3]
    assert found.max() < 0.01


def test_item_knn_is_the_cosine_of_who_acted_on_both() -> None:
    """Plain co-counts would be popularity once more."""
    peer = ItemKNN()
    learn(peer, [(0, [0, 1]), (1, [1, 0]), (2, [1, 2]), (3, [1])])
    both, count = np.array([0, 2, 0]), np.array([2, 4, 1])
    expected = both / np.sqrt(2 * count)
    assert scores(peer, 9, [0], 3) == pytest.approx(expected, abs=0.006)
    assert scores(peer, 9, [0, 2], 3)[1] == pytest.approx(2 / np.sqrt(2 * 4) + 1 / np.sqrt(4), abs=0.006)


def test_vs_knn_lets_neighbours_vote_by_how_recent_what_they_share_is() -> None:
    """A neighbour who shares an old item would weigh as much as one who shares the newest."""
    peer = VSKNN(VSKNNSettings(session_items=4, idf_power=0))
    learn(peer, [(0, [0, 5]), (1, [1, 6]), (2, [0, 1, 7])])
    # Weights of the session: 1 for the newest item, 3/4 for the one before, which halves what shares no newer one.
    old, new, both = 0.75 / 2 / 2**0.5, 1 / 2**0.5, 1.75 / 3**0.5
    expected = [old + both, new + both, 0, 0, 0, old, new, both]
    assert scores(peer, 9, [0, 1], 8) == pytest.approx(expected, abs=0.006)


def test_vs_knn_asks_the_most_similar_others_and_only_so_many() -> None:
    """Users would be neighbours of themselves, and all of the others, too."""
    peer = VSKNN(VSKNNSettings(session_items=2, neighbours=1, idf_power=0))
    learn(peer, [(0, [0, 5]), (1, [0, 1, 6]), (9, [0, 1])])
    vote = 1.5 / 3**0.5
    assert scores(peer, 9, [0, 1], 7) == pytest.approx([vote, vote, 0, 0, 0, 0, vote], abs=0.006)


def test_vs_knn_votes_for_what_few_acted_on_by_idf() -> None:
    """What everybody has would win every vote."""
    peer = VSKNN(VSKNNSettings(session_items=1, idf_power=1))
    learn(peer, [(0, [0, 1, 2]), (1, [3, 1]), (2, [4, 1])])
    vote = 1 / 3**0.5
    expected = [vote * np.log(1 + 3), vote * np.log(1 + 1), vote * np.log(1 + 3), 0, 0]
    assert scores(peer, 9, [0], 5) == pytest.approx(expected, abs=0.006)


def test_isgd_steps_on_the_error_of_the_product() -> None:
    """A wrong sign learns to avoid what was liked."""
    settings = ISGDSettings(num_features=2, rate=0.1, regularisation=0.5, num_negatives=0)
    peer, twin = ISGD(settings), ISGD(settings)
    visit = Visit(0, 0, 0, np.zeros(0, np.int64))
    before = twin.scores([visit], 1)[0, 0]
    user_D, item_D = (np.random.default_rng([0, which]).normal(scale=0.1, size=2) for which in (0, 1))
    assert before == pytest.approx(user_D @ item_D)
    error = 1 - user_D @ item_D
    user_D = user_D + 0.1 * (error * item_D - 0.5 * user_D)
    item_D = item_D + 0.1 * (error * user_D - 0.5 * item_D)
    peer.learn([visit])
    assert peer.scores([visit], 1)[0, 0] == pytest.approx(user_D @ item_D)
    for _ in range(300):
        peer.learn([visit])
    assert peer.scores([visit], 1)[0, 0] > 0.3


def test_isgd_learns_what_was_not_seen_for_longest_as_none_of_the_user_s() -> None:
    """Without negatives all products creep to 1; with the newest ones they would fight what was just learned."""
    peer = ISGD(ISGDSettings(num_features=4, rate=0.2, num_negatives=1))
    nothing = np.zeros(0, np.int64)
    for _ in range(200):
        peer.learn([Visit(0, 0, 0, nothing)])
        peer.learn([Visit(0, 1, 1, nothing)])
    found = peer.scores([Visit(0, 0, 0, nothing), Visit(0, 1, 0, nothing)], 2)
    assert found[0, 0] > 0.5 > found[0, 1]
    assert found[1, 1] > 0.5 > found[1, 0]


def test_isgd_outlives_a_rate_that_is_too_high() -> None:
    """A step beyond the goal makes the next one larger, until all scores are NaN."""
    peer = ISGD(ISGDSettings(rate=3.0))
    visits = [Visit(0, number % 3, number % 7, np.zeros(0, np.int64)) for number in range(300)]
    for each in visits:
        peer.learn([each])
    assert np.isfinite(peer.scores(visits[:3], 7)).all()


def test_pair_counts_outlive_growth() -> None:
    """Counts would be lost, or land at other pairs, when the square is made anew."""
    counts = PairCounts()
    counts.add(np.array([3, 200]), 5, 2.0)
    counts.add(900, np.array([3, 899]), 1.0)
    counts.add(3, 5, 1.0)
    dense = np.zeros((3, 1_000))
    dense[0, 5], dense[1, 5], dense[2, [3, 899]] = 3, 2, 1
    assert np.array_equal(counts.rows(np.array([3, 200, 900]), 1_000), dense)
