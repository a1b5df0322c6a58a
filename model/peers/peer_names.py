"""Names of the peers, apart from what they are: a command line offers them without loading torch."""

from typing import Literal

PeerName = Literal["popularity", "markov", "item-knn", "vs-knn", "isgd", "gru4rec", "sasrec", "sasrec-frozen"]
