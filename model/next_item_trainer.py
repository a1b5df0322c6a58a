"""A next-item model in training: its steps, its state."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from model.history_batch import HistoryBatch
from model.hstu import Dropout
from model.next_item import NextItemModel
from model.optimizer import DenseOptimizer


class NextItemTrainer:
    """AdamW (betas .9, .98, no weight decay, no clipping) on the sampled softmax of a model."""

    def __init__(self, model: NextItemModel, *, rate: float, num_negatives: int, temperature: float) -> None:
        self.model = model
        self.num_negatives = num_negatives
        self.temperature = temperature
        self._generator = torch.Generator()
        self._optimizer = DenseOptimizer(model, rate, math.inf)

    def begin(self, seed: int) -> None:
        """Draw negatives and dropout from this seed from now on."""
        self._generator = torch.Generator(self.model.items.device).manual_seed(seed)
        for module in self.model.modules():
            if isinstance(module, Dropout):
                module.generator = self._generator
        self.model.train()

    def step(self, batch: HistoryBatch, num_items: int) -> float:
        """Learn from a batch with negatives among the first `num_items`; its loss. Raises `FloatingPointError`."""
        self._optimizer.clear()
        loss = self.model.sampled_loss(
            self.model(batch),
            batch.targets_P,
            num_items=num_items,
            num_negatives=self.num_negatives,
            temperature=self.temperature,
            generator=self._generator,
        )
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types for it
        if not self._optimizer.step():
            raise FloatingPointError(f"the loss is {loss.item()} and its gradient not finite; lower the rate")
        return loss.item()

    def state(self) -> dict[str, np.ndarray]:
        """Copies of weights and moments."""
        weights = {f"model.{name}": value.cpu().numpy().copy() for name, value in self.model.state_dict().items()}
        return weights | self._optimizer.state()

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state` of a model of the same shape."""
        weights = {name: torch.from_numpy(arrays[f"model.{name}"]) for name in self.model.state_dict()}
        self.model.load_state_dict(weights)
        self._optimizer.load(arrays)
