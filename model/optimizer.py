"""AdamW over the dense weights, with its moments as plain arrays and a guard against steps that are not finite."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

_GATES = "retrieval.gates"
_GATE_RATE = 0.01
"""How counts are weighed follows the stream faster than what is learned."""
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class DenseOptimizer:
    """AdamW (betas .9, .98, no weight decay) after clipping to a norm."""

    def __init__(self, network: torch.nn.Module, rate: float, max_norm: float) -> None:
        self._named = dict(network.named_parameters())
        self._max_norm = max_norm
        gates = [parameter for name, parameter in self._named.items() if name == _GATES]
        others = [parameter for name, parameter in self._named.items() if name != _GATES]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": gates, "lr": _GATE_RATE}]
        self._adam = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    def clear(self) -> None:
        """Forget gradients."""
        self._adam.zero_grad(set_to_none=True)

    def step(self) -> bool:
        """Take one step; False, and nothing is changed, where a gradient is not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self._named.values(), self._max_norm)
        if not bool(torch.isfinite(norm)):
            return False
        self._adam.step()
        return True

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all moments; empty before the first step."""
        return {
            f"adam.{name}.{moment}": self._adam.state[parameter][moment].cpu().numpy().copy()
            for name, parameter in self._named.items()
            for moment in _MOMENTS
            if parameter in self._adam.state
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        for name, parameter in self._named.items():
            if f"adam.{name}.step" in arrays:
                self._adam.state[parameter] = {
                    moment: torch.tensor(arrays[f"adam.{name}.{moment}"], device=parameter.device)
                    for moment in _MOMENTS
                }
