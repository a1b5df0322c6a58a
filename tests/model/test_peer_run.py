"""A peer is judged by the learner's protocol, event for event."""

from collections.abc import Sequence

import numpy as np
import pytest

from model.evaluation import Interaction, prequential_run
from model.metrics import Floats
from model.peer_run import peer_run
from model.peers.decayed_popularity import DecayedPopularity
from model.peers.peer import Visit
from tests.model.synthetic import learner_factory, markov_stream


class Recorder:
    """Gives every item the same score and keeps what it is told."""

    def __init__(self, batch_visits: int) -> None:
        self.batch_visits = batch_visits
        self.told = list[tuple[str, list[Visit]]]()

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """Zeros."""
        self.told.append(("score", list(visits)))
        return np.zeros((len(visits), num_items))

    def learn(self, visits: Sequence[Visit]) -> None:
        """Nothing."""
        self.told.append(("learn", list(visits)))


def test_a_peer_and_the_learner_rank_the_same_targets_among_the_same_candidates() -> None:
    """Two figures under two protocols cannot be compared: as a peer, the learner's bar must tell its very ranks."""
    stream = [
        Interaction(event.user_id, event.item_id, event.ts_ms, event.actions * (number % 5 != 0), group=number // 3)
        for number, event in enumerate(markov_stream(600))
    ]
    peer = peer_run(DecayedPopularity(), stream, total=600, positive_index=0, ranks=[])
    learner = prequential_run(learner_factory(), stream, total=600, ranks=[])
    assert [rank.event for rank in peer.ranks] == [rank.event for rank in learner.ranks]
    for name in ("events", "warm_up_events", "events_scored", "events_scored_last_quarter"):
        assert getattr(peer, name) == getattr(learner, name)
    assert peer.repeats.events == learner.repeats.events > 0
    assert peer.positives.events == learner.positives.events > 0
    assert (peer.hit_rate, peer.ndcg, peer.mrr > 0) == (learner.popularity_hit_rate, learner.popularity_ndcg, True)
    assert (peer.popularity_hit_rate, peer.popularity_ndcg) == (peer.hit_rate, peer.ndcg)
    assert peer.positives.hit_rate == learner.positives.popularity_hit_rate
    assert peer.repeats.ndcg == learner.repeats.popularity_ndcg
    assert np.isnan(peer.auc)


@pytest.mark.parametrize("batch_visits", [1, 3, 1_000])
def test_each_target_is_scored_once_and_then_learned_once(batch_visits: int) -> None:
    """A peer that is told of its targets first, or that misses some, is not what its figures say."""
    peer, stream = Recorder(batch_visits), markov_stream(300)
    peer_run(peer, stream, total=300, positive_index=0)
    assert [name for name, _ in peer.told] == ["score", "learn"] * (len(peer.told) // 2)
    scored, learned = ([visits for name, visits in peer.told if name == kind] for kind in ("score", "learn"))
    assert scored == learned
    assert [visit.number for visits in scored for visit in visits] == list(range(300))
    assert max(map(len, scored)) == min(batch_visits, 128)


def test_a_visit_knows_what_its_user_acted_on_in_earlier_groups_and_nothing_else() -> None:
    """A history with the target, an exposure or the target's neighbours on the page gives it away."""
    rows = [("a", "x", 1, 0), ("a", "y", 0, 1), ("b", "x", 1, 2), ("a", "z", 1, 3), ("a", "w", 1, 3), ("a", "x", 1, 4)]
    stream = [Interaction(user, item, 0, actions, group=group) for user, item, actions, group in rows]
    peer = Recorder(1)
    peer_run(peer, stream, total=6, positive_index=0)
    visits = [visits[0] for name, visits in peer.told if name == "score"]
    x, z, w = 0, 2, 3
    assert [visit.item for visit in visits] == [x, x, z, w, x]
    assert [visit.history.tolist() for visit in visits] == [[], [], [x], [x], [x, z, w]]
    assert [visit.user for visit in visits] == [0, 1, 0, 0, 0]


def test_a_frozen_peer_is_scored_and_not_told() -> None:
    """`--freeze-after` would be ignored."""
    peer = Recorder(50)
    report = peer_run(peer, markov_stream(300), total=300, positive_index=0, freeze_after=0.5)
    assert [visit.number for name, visits in peer.told if name == "learn" for visit in visits] == list(range(150))
    assert sum(len(visits) for name, visits in peer.told if name == "score") == 300
    assert report.steps == sum(name == "learn" for name, _ in peer.told)
    with pytest.raises(ValueError, match=r"freeze_after must be in \[0, 1\], got 2"):
        peer_run(peer, [], total=0, positive_index=0, freeze_after=2)
