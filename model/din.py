"""A ranker like DIN, learned online: what HSTU's ranking is held against beside counted rates.

Shapes: E events, B events of a batch, N newest acted events of a user, A action types, D width.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layout import Integers
from model.metrics import Floats
from model.optimizer import DenseOptimizer


@dataclass(frozen=True, kw_only=True, slots=True)
class DINSettings:
    """Model and training."""

    dim: int = 32
    max_history: int = 50
    """Newest acted events of a user that are looked at."""
    unit_hidden: int = 36
    """Hidden width of the activation unit."""
    hidden: tuple[int, int] = (80, 40)
    rate: float = 3e-3
    """AdamW learning rate; betas .9 and .98, no weight decay."""
    batch_events: int = 64
    seed: int = 0


class DINBatch(NamedTuple):
    """Exposures with the histories before them; row 0 of a table is padding."""

    users_B: Tensor
    items_B: Tensor
    history_BN: Tensor
    """Items that were acted on, the newest last."""
    actions_BNA: Tensor
    """Which actions, 0 or 1."""


class DIN(nn.Module):
    """MLP over [user, item, p, p * item], p = sum of w(h, item) h over acted events h; w is not normalised.

    w is an MLP over [h, item, h - item, h * item]; an event is its item's row plus one for each of its actions.
    Zhou et al. 2018 (arXiv 1706.06978), with SiLU in place of Dice.
    """

    def __init__(self, settings: DINSettings, *, num_users: int, num_items: int, num_actions: int) -> None:
        super().__init__()
        dim, (wide, narrow) = settings.dim, settings.hidden
        self.users = nn.Embedding(num_users + 1, dim)
        self.items = nn.Embedding(num_items + 1, dim)
        self.actions = nn.Linear(num_actions, dim, bias=False)
        self.unit = nn.Sequential(
            nn.Linear(4 * dim, settings.unit_hidden), nn.SiLU(), nn.Linear(settings.unit_hidden, 1)
        )
        self.head = nn.Sequential(
            nn.Linear(4 * dim, wide), nn.SiLU(), nn.Linear(wide, narrow), nn.SiLU(), nn.Linear(narrow, num_actions)
        )

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif name.startswith(("users", "items")):
                nn.init.normal_(weight, std=0.05, generator=generator)
            else:
                nn.init.xavier_uniform_(weight, generator=generator)

    def forward(self, batch: DINBatch) -> Tensor:
        """Log odds [B, A]."""
        item_BD = self.items(batch.items_B)
        event_BND = self.items(batch.history_BN) + self.actions(batch.actions_BNA)
        wide_BND = item_BD[:, None].expand_as(event_BND)
        pairs = torch.cat([event_BND, wide_BND, event_BND - wide_BND, event_BND * wide_BND], -1)
        weight_BN1 = self.unit(pairs) * (batch.history_BN != 0).unsqueeze(-1)
        pooled_BD = (weight_BN1 * event_BND).sum(1)
        logits_BA: Tensor = self.head(
            torch.cat([self.users(batch.users_B), item_BD, pooled_BD, pooled_BD * item_BD], -1)
        )
        return logits_BA


def din_logits(
    users: Sequence[str],
    items: Sequence[str],
    actions_E: Integers,
    num_actions: int,
    settings: DINSettings = DINSettings(),
    progress: Callable[[int], None] = lambda events: None,
) -> Floats:
    """Log odds [E, A] of each action for each exposure: a batch is scored with the weights before it, then learned.

    The history of an exposure is what its user acted on before it, in the same batch, too. `progress` is told how many
    are done. Raises `FloatingPointError` where a gradient is not finite.
    """
    rows = (
        np.unique(np.array(users), return_inverse=True)[1] + 1,
        np.unique(np.array(items), return_inverse=True)[1] + 1,
    )
    model = DIN(settings, num_users=int(rows[0].max()), num_items=int(rows[1].max()), num_actions=num_actions)
    model.reset(torch.Generator().manual_seed(settings.seed))
    optimizer = DenseOptimizer(model, settings.rate, np.inf)
    labels_EA = ((actions_E[:, None] >> np.arange(num_actions)) & 1).astype(np.float32)
    logits_EA = np.zeros(labels_EA.shape)
    done = 0
    for batch in _batches(*rows, labels_EA, settings):
        end = done + len(batch.users_B)
        optimizer.clear()
        logits_BA = model(batch)
        logits_EA[done:end] = logits_BA.detach().numpy()
        loss = F.binary_cross_entropy_with_logits(logits_BA, torch.from_numpy(labels_EA[done:end]))
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types for it
        if not optimizer.step():
            raise FloatingPointError(f"the loss is {loss.item()} and its gradient not finite; lower the rate")
        done = end
        progress(done)
    return logits_EA


def _batches(
    users_E: Integers, items_E: Integers, labels_EA: npt.NDArray[np.float32], settings: DINSettings
) -> Iterator[DINBatch]:
    """All exposures in their order."""
    acted: dict[int, list[int]] = defaultdict(list)
    longest = settings.max_history
    for start in range(0, len(users_E), settings.batch_events):
        chosen = range(start, min(start + settings.batch_events, len(users_E)))
        events_BN = np.full((len(chosen), longest), -1)
        for row, event in enumerate(chosen):
            before = acted[int(users_E[event])][-longest:]
            events_BN[row, longest - len(before) :] = before
            if labels_EA[event].any():
                acted[int(users_E[event])].append(event)
        history_BN = np.where(events_BN >= 0, items_E[events_BN], 0)
        part = slice(chosen.start, chosen.stop)
        yield DINBatch(
            torch.from_numpy(users_E[part]),
            torch.from_numpy(items_E[part]),
            torch.from_numpy(history_BN),
            torch.from_numpy(labels_EA[events_BN]),
        )
