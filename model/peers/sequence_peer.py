"""GRU4Rec and SASRec as peers: learned online in micro-batches, or once on the warm-up.

Shapes: Q visits, I items so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.encoder import EncoderSettings, SequenceEncoder
from model.hstu import Dropout
from model.metrics import Floats
from model.optimizer import DenseOptimizer
from model.peers.gru import GRU
from model.peers.peer import Visit
from model.peers.sequence_model import SequenceModel, visit_batch
from model.sasrec import SASRec

BATCH_VISITS = 128
"""Most visits of a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SequencePeerSettings:
    """Model and training."""

    encoder: Literal["gru4rec", "sasrec"]
    max_items: int
    """Rows of the item table."""
    dim: int = 64
    num_layers: int = 2
    """Of SASRec; GRU4Rec has one."""
    max_context: int = 100
    """Items before a step's first visit of a user that are looked at."""
    temperature: float = 0.2
    """Initial temperature of the softmax; learned from there."""
    rate: float = 3e-3
    """AdamW learning rate; betas .9 and .98, no weight decay, gradients clipped to a norm of 1."""
    dropout: float = 0.0
    """Of SASRec, while it learns."""
    seed: int = 0

    def fresh(self) -> SequenceModel:
        """A new model with drawn weights."""
        encoder: SequenceEncoder = GRU(self.dim) if self.encoder == "gru4rec" else SASRec(self._shape())
        num_positions = self.max_context + BATCH_VISITS + 1 if self.encoder == "sasrec" else 0
        model = SequenceModel(
            encoder,
            dim=self.dim,
            max_items=self.max_items,
            num_positions=num_positions,
            temperature=self.temperature,
        )
        model.reset(torch.Generator().manual_seed(self.seed))
        return model

    def _shape(self) -> EncoderSettings:
        return EncoderSettings(
            dim=self.dim, num_layers=self.num_layers, key_dim=self.dim, value_dim=self.dim, dropout=self.dropout
        )


class OnlineSequencePeer:
    """One pass: each visit is scored and learned once, by the softmax over the items so far of one forward pass.

    GRU4Rec (Hidasi & Karatzoglou 2018, arXiv 1706.03847: one layer, cross entropy) and SASRec (Kang & McAuley 2018,
    arXiv 1808.09781; its loss the softmax, which serves it better than one negative: Klenitskiy & Vasilev 2023, arXiv
    2309.07602), with the learner's width, rate and temperature. Each visit is predicted from the items before it alone,
    behind a BOS token, so that first visits are, too.
    """

    batch_visits = BATCH_VISITS

    def __init__(self, settings: SequencePeerSettings) -> None:
        self._max_context = settings.max_context
        self._model = settings.fresh()
        self._optimizer = DenseOptimizer(self._model, settings.rate, 1.0)
        self._scored = (torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64))

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """Logits; the pass is kept, so that `learn` need not do it again."""
        batch = visit_batch(visits, self._max_context)
        self._scored = self._model(batch, num_items), batch.targets_Q
        return _as_floats(self._scored[0])

    def learn(self, visits: Sequence[Visit]) -> None:
        """One step on the visits that were scored last; raises `FloatingPointError` where it is not finite."""
        _step(self._optimizer, *self._scored)


class FrozenSequencePeer:
    """The same trained for epochs on the first events, then never again: the usual offline model on a stream.

    It reads what users do later, but its weights stay, and items that came later keep what they were drawn with.
    """

    batch_visits = BATCH_VISITS

    def __init__(
        self, settings: SequencePeerSettings, *, num_events: int, num_epochs: int, step_users: int = 8
    ) -> None:
        self.num_events = num_events
        """Events of the stream that are learned from; before their end all scores are 0."""
        self.num_epochs = num_epochs
        self.step_users = step_users
        """Users of a step, or stretches of 128 visits of one."""
        self._settings = settings
        self._model = settings.fresh()
        self._visits: dict[int, list[Visit]] = {}
        self._num_items = 0

    def scores(self, visits: Sequence[Visit], num_items: int) -> Floats:
        """Logits; the model is trained before the first that comes after the events to learn from."""
        if visits[0].number < self.num_events:
            return np.zeros((len(visits), num_items))
        if self._visits:
            self._train()
            self._visits.clear()
        with torch.no_grad():
            return _as_floats(self._model(visit_batch(visits, self._settings.max_context), num_items))

    def learn(self, visits: Sequence[Visit]) -> None:
        """Keep the visits that the model will be trained on."""
        for visit in visits:
            if visit.number < self.num_events:
                self._visits.setdefault(visit.user, []).append(visit)
                self._num_items = max(self._num_items, visit.item + 1)

    def _train(self) -> None:
        generator = torch.Generator().manual_seed(self._settings.seed)
        for module in self._model.modules():
            if isinstance(module, Dropout):
                module.generator = generator
        optimizer = DenseOptimizer(self._model, self._settings.rate, 1.0)
        stretches, draws = self._stretches(), np.random.default_rng(self._settings.seed)
        self._model.train()
        for _ in range(self.num_epochs):
            order = draws.permutation(len(stretches)).tolist()
            for start in range(0, len(order), self.step_users):
                visits = [visit for place in order[start : start + self.step_users] for visit in stretches[place]]
                batch = visit_batch(visits, self._settings.max_context)
                _step(optimizer, self._model(batch, self._num_items), batch.targets_Q)
        self._model.eval()

    def _stretches(self) -> list[list[Visit]]:
        """Visits of one user, up to 128 of them, each stretch as if of a user of its own."""
        cut = [
            own[start : start + BATCH_VISITS]
            for own in self._visits.values()
            for start in range(0, len(own), BATCH_VISITS)
        ]
        return [[replace(visit, user=number) for visit in stretch] for number, stretch in enumerate(cut)]


def _step(optimizer: DenseOptimizer, logits_QI: Tensor, targets_Q: Tensor) -> None:
    """One step on the softmax's cross entropy; raises `FloatingPointError` where it is not finite."""
    loss = F.cross_entropy(logits_QI, targets_Q)
    optimizer.clear()
    loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types for it
    if not optimizer.step():
        raise FloatingPointError(f"the loss is {loss.item()} and its gradient not finite; lower the rate")


def _as_floats(logits_QI: Tensor) -> Floats:
    scores_QI: Floats = logits_QI.detach().numpy().astype(np.float64)
    return scores_QI
