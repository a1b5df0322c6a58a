"""What every peer must be, whoever it is."""

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest

from model.evaluation import EventRank, Interaction, PrequentialReport
from model.metrics import Floats
from model.peer_run import peer_run
from model.peers.peer import Peer, Visit
from model.peers.peer_names import PeerName
from model.peers.peers import make_peer
from model.peers.sequence_peer import FrozenSequencePeer
from tests.model.synthetic import markov_stream

NAMES: tuple[PeerName, ...] = get_args(PeerName)
EVENTS = 400
every_peer = pytest.mark.parametrize("name", NAMES)


def peer_factory(name: PeerName, *, seed: int = 0) -> Peer:
    peer = make_peer(name, seed=seed, max_items=1_000, warm_up_events=EVENTS // 10)
    if isinstance(peer, FrozenSequencePeer):
        peer.num_epochs = 2
    return peer


def run(peer: Peer, stream: Sequence[Interaction], *, freeze_after: float | None = None) -> PrequentialReport:
    return peer_run(peer, stream, total=EVENTS, positive_index=0, freeze_after=freeze_after, ranks=[])


def pairs(ranks: Sequence[EventRank]) -> list[tuple[int, float]]:
    return [(rank.event, rank.rank) for rank in ranks]


@every_peer
def test_ranks_before_a_point_stay_whatever_comes_after_it(name: PeerName) -> None:
    """A peer that used the future, its own event or its micro-batch's would be no bar but a wall."""
    stream, cut, rng = markov_stream(EVENTS), 300, np.random.default_rng(9)
    noise = [
        Interaction(f"u{rng.integers(40)}", f"noise{rng.integers(500)}", 1_000 * number, int(rng.integers(0, 3)))
        for number in range(cut, EVENTS)
    ]
    whole, cut_off = run(peer_factory(name), stream).ranks, run(peer_factory(name), stream[:cut]).ranks
    changed = run(peer_factory(name), stream[:cut] + noise).ranks
    assert len(cut_off) == cut
    assert pairs(whole[:cut]) == pairs(changed[:cut]) == pairs(cut_off)


class Watched:
    """A peer whose scores are kept, and asked for twice."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.batch_visits = peer.batch_visits

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """The same both times, finite, and of the right shape."""
        first = self.peer.scores(visits, num_items)
        again = self.peer.scores(visits, num_items)
        assert first.shape == (len(visits), num_items)
        assert first.dtype == np.float64
        assert np.isfinite(first).all()
        assert first.tobytes() == again.tobytes()
        return again

    def learn(self, visits: Sequence[Visit]) -> None:
        """Pass on."""
        self.peer.learn(visits)


@every_peer
def test_scores_are_finite_and_asking_changes_nothing(name: PeerName) -> None:
    """A peer full of NaN is always last; one that learns by being asked saw its targets."""
    stream = [*markov_stream(200), *(Interaction("new", f"i{number}", 10**9, number % 2) for number in range(9))]
    assert pairs(run(Watched(peer_factory(name)), stream).ranks) == pairs(run(peer_factory(name), stream).ranks)


@every_peer
def test_one_seed_is_one_run(name: PeerName) -> None:
    """A figure that differs from run to run proves nothing."""
    stream = markov_stream(200)
    first, again = run(peer_factory(name), stream), run(peer_factory(name), stream)
    assert pairs(first.ranks) == pairs(again.ranks)
    assert first.steps == again.steps > 0


@pytest.mark.parametrize("name", ["isgd", "gru4rec", "sasrec", "sasrec-frozen"])
def test_another_seed_is_another_run(name: PeerName) -> None:
    """Three seeds that are one would look like no variance."""
    stream = markov_stream(200)
    first, other = run(peer_factory(name), stream), run(peer_factory(name, seed=1), stream)
    assert pairs(first.ranks) != pairs(other.ranks)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("popularity", "sasrec-frozen", "isgd")])
def test_peers_that_learn_find_what_popularity_does_not(name: PeerName) -> None:
    """A peer that learns nothing is no peer."""
    stream = markov_stream(1_500, num_items=40)
    report = peer_run(peer_factory(name), stream, total=len(stream), positive_index=0)
    assert report.hit_rate_last_quarter > 1.2 * report.popularity_hit_rate_last_quarter
