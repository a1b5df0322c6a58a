"""Peers by name."""

from model.peers.decayed_popularity import DecayedPopularity
from model.peers.isgd import ISGD, ISGDSettings
from model.peers.item_knn import ItemKNN
from model.peers.markov import Markov
from model.peers.peer import Peer
from model.peers.peer_names import PeerName
from model.peers.sequence_peer import FrozenSequencePeer, OnlineSequencePeer, SequencePeerSettings
from model.peers.vs_knn import VSKNN

_FROZEN_EPOCHS = 50
_FROZEN_DROPOUT = 0.2


def make_peer(name: PeerName, *, seed: int, max_items: int, warm_up_events: int) -> Peer:
    """A fresh peer with the settings of its class.

    `max_items` is how many items may come; `sasrec-frozen` learns from the first `warm_up_events` events of the stream.
    """
    match name:
        case "popularity":
            return DecayedPopularity()
        case "markov":
            return Markov()
        case "item-knn":
            return ItemKNN()
        case "vs-knn":
            return VSKNN()
        case "isgd":
            return ISGD(ISGDSettings(seed=seed))
        case "gru4rec" | "sasrec":
            return OnlineSequencePeer(SequencePeerSettings(encoder=name, max_items=max_items, seed=seed))
        case "sasrec-frozen":
            return FrozenSequencePeer(
                SequencePeerSettings(encoder="sasrec", max_items=max_items, dropout=_FROZEN_DROPOUT, seed=seed),
                num_events=warm_up_events,
                num_epochs=_FROZEN_EPOCHS,
            )
