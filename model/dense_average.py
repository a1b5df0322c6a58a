"""A moving average of the dense weights over the last steps: what is served jitters less than what is learned."""

from collections.abc import Mapping

import numpy as np

from model.network import Network, dense_arrays, load_dense

_RAW = "raw."


class DenseAverage:
    """Exponential, over about so many steps (Polyak & Juditsky 1992 average all; a stream that drifts forgets)."""

    def __init__(self, network: Network, num_steps: int) -> None:
        self._network = network
        self._weight = 1 / num_steps
        self._values = {name: value.detach().clone() for name, value in network.named_parameters()}

    def update(self) -> None:
        """Move towards the weights as they are after a step."""
        for name, value in self._network.named_parameters():
            self._values[name].lerp_(value.detach(), self._weight)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Copies of (the averages under the names of `dense_arrays`, the weights as they are)."""
        averages = {f"dense.{name}": value.cpu().numpy().copy() for name, value in self._values.items()}
        return averages, {_RAW + name: array for name, array in dense_arrays(self._network).items()}

    def load(self, model: Mapping[str, np.ndarray], trainer: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`, weights included; raises `ValueError` where a name is missing or a shape differs."""
        load_dense(self._network, model)
        self._values = {name: value.detach().clone() for name, value in self._network.named_parameters()}
        raw = {name.removeprefix(_RAW): array for name, array in trainer.items() if name.startswith(_RAW)}
        load_dense(self._network, raw)
