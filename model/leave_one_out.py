"""Leave-one-out: learn from all but each user's last event over many epochs, then rank the catalogue for that one.

Order     Each user's events in the order that they are given in; nobody and nothing is filtered by count.
Learning  All but the last event; one sample for each user and epoch, its newest `max_history` + 1 events; each token
          predicts the next event, at the time of that event. With `alpha` below 2, long histories are shortened first
          (stochastic length), anew in each epoch.
Target    Each user's last event, predicted at its time from the `max_history` events before it.
Ranking   By cosine over the whole catalogue less the user's own earlier items, all of them; a target among those is a
          miss. Ties count half. There is no validation set: figures are those after the last epoch.

Shapes: B users, P predictions, D width, V items and a padding row 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from model.corpus import Corpus
from model.cutoffs import cutoff_figures
from model.history_batch import Choose, HistoryBatch, history_batch, usable_users
from model.hstu import tiled_product
from model.layout import Integers
from model.metrics import Floats
from model.next_item_settings import NextItemSettings
from model.prequential import candidate_ranks
from model.stochastic_length import Selection, StochasticLength

_RANKED_USERS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaveOneOutSettings(NextItemSettings):
    """Model and training; the defaults are the published ones for MovieLens-1M."""

    max_history: int = 200
    """Newest events of a user that are looked at."""
    dropout: float = 0.2
    num_epochs: int = 101
    batch_users: int = 128
    """Users in a step."""
    alpha: float = 2.0
    """Of stochastic length: of a long history, about max_history^(alpha / 2) events are learned from; 2: all."""
    selection: Selection = "weighted"
    """Which events of a shortened history stay."""

    def __post_init__(self) -> None:
        NextItemSettings.__post_init__(self)
        self.check_counts("max_history", "num_epochs", "batch_users")
        self.lengths()
        self.shape(window=self.window, dropout=self.dropout)

    @property
    def window(self) -> int:
        """Positions that the model knows: the published N is the longest history plus 10 more items plus 1."""
        return self.max_history + 11

    def lengths(self) -> StochasticLength:
        """What part of a history is learned from; raises `ValueError`."""
        return StochasticLength(alpha=self.alpha, longest=self.max_history, selection=self.selection)


class LeaveOneOut:
    """A model in training on a corpus.

    An epoch draws from generators of its own number, so that it depends on the state before it and on nothing else.
    """

    def __init__(self, corpus: Corpus, settings: LeaveOneOutSettings, device: torch.device) -> None:
        self.corpus = corpus
        self.settings = settings
        self.device = device
        self.trainer = settings.fresh(
            num_items=corpus.num_items, window=settings.window, dropout=settings.dropout, device=device
        )
        self.model = self.trainer.model

    def run_epoch(self, epoch: int) -> Iterator[float]:
        """Learn once from every user; the loss of each step as it is done. Raises `FloatingPointError`."""
        draws = np.random.default_rng([self.settings.seed, epoch])
        self.trainer.begin(int(draws.integers(2**62)))
        users = draws.permutation(usable_users(self.corpus, 1))
        choose = None if self.settings.alpha == 2 else partial(self.settings.lengths().choose, draws=draws)
        for start in range(0, len(users), self.settings.batch_users):
            batch = self._batch(users[start : start + self.settings.batch_users], 1, choose)
            yield self.trainer.step(batch, self.corpus.num_items)

    def num_steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(usable_users(self.corpus, 1)) // self.settings.batch_users)

    def ranks(self) -> Floats:
        """Rank of each usable user's last event, in the order of the users."""
        self.model.eval()
        users = usable_users(self.corpus, 0)
        by_length = users[np.argsort(self.corpus.lengths[users], kind="stable")]
        ranks = np.zeros(self.corpus.num_users)
        with torch.inference_mode():
            items_VD = self.model.unit_items()
            for start in range(0, len(by_length), _RANKED_USERS):
                batch = self._batch(by_length[start : start + _RANKED_USERS], 0)
                ranks[batch.users_P] = self._batch_ranks(batch, items_VD)
        return ranks[users]

    def figures(self) -> dict[str, float]:
        """HR, NDCG and MRR of all targets."""
        return cutoff_figures(self.ranks())

    def _batch(self, users: Integers, left_out: int, choose: Choose | None = None) -> HistoryBatch:
        return history_batch(
            self.corpus,
            users,
            left_out=left_out,
            max_history=self.settings.max_history,
            last_only=left_out == 0,
            device=self.device,
            choose=choose,
        )

    def _batch_ranks(self, batch: HistoryBatch, items_VD: torch.Tensor) -> Floats:
        scores_PV = tiled_product(self.model(batch), items_VD.T).cpu().numpy()
        candidates_PV = np.ones(scores_PV.shape, np.bool_)
        candidates_PV[:, 0] = False
        for row, user in enumerate(batch.users_P):
            start, end = self.corpus.offsets[user : user + 2]
            candidates_PV[row, self.corpus.items_T[start : end - 1]] = False
        return candidate_ranks(scores_PV, batch.targets_P.cpu().numpy(), candidates_PV)
