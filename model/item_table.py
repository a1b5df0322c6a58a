"""Weights of items by row, trained only where they are touched.

Shapes: I rows, U distinct rows, N new rows, D width.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from model.layout import Integers

_INITIAL_STD = 0.02
_EPSILON = 1e-8
_PERIOD_DECAY = 0.9
"""What is left after each period of what a row remembers of its gradients."""


class ItemTable:
    """Item weights with row-wise AdaGrad, whose sums fade so that rows go on learning in a stream without end.

    The gradient is taken on a leaf of gathered rows, so that neither a dense gradient nor a sparse tensor of the
    whole table is made (VOCABULARY.md, section 3: 8 ms against 1,361 ms for a dense AdamW over a million rows). A sum
    fades by period, and when its row is touched, as in DeepRec's AdagradDecay. All `num_rows` rows are reserved from
    the start: the pages of those that were never touched take no memory.
    """

    def __init__(self, dim: int, num_rows: int, rate: float, generator: torch.Generator, device: torch.device) -> None:
        self.rate = rate
        self.period = 0
        self._generator = generator
        # NumPy's zeros are pages that nobody has touched; torch's would be written.
        self.weight = torch.from_numpy(np.zeros((num_rows, dim), np.float32)).to(device)
        self._sum_I = torch.from_numpy(np.zeros(num_rows, np.float32)).to(device)
        self._period_I = torch.from_numpy(np.zeros(num_rows, np.int64)).to(device)

    def begin(self, rows_N: Integers, start_ND: Tensor) -> None:
        """Give new rows their first weights: what their ids have learned so far, and noise."""
        for row, start_D in zip(rows_N.tolist(), start_ND, strict=True):
            # One draw per row: a row must not depend on how many ids were admitted together.
            noise_D = torch.randn(self.weight.shape[1], generator=self._generator) * _INITIAL_STD
            self.weight[row] = start_D + noise_D.to(self.weight.device)

    def clear(self, rows: Integers) -> None:
        """Leave nothing of rows that were taken back."""
        index = torch.from_numpy(rows).to(self.weight.device)
        self.weight[index] = 0
        self._sum_I[index] = 0
        self._period_I[index] = 0

    def gather(self, rows_U: Tensor) -> Tensor:
        """The rows [U, D] as an autograd leaf; `rows_U` holds no row twice."""
        return self.weight[rows_U].requires_grad_()

    def learn(self, rows_U: Tensor, gradient_UD: Tensor) -> None:
        """One step of row-wise AdaGrad: one squared-gradient mean per row."""
        faded_U = self._sum_I[rows_U] * _PERIOD_DECAY ** (self.period - self._period_I[rows_U])
        total_U = faded_U + gradient_UD.square().mean(-1)
        self._sum_I[rows_U] = total_U
        self._period_I[rows_U] = self.period
        step_U = self.rate / (total_U.sqrt() + _EPSILON)
        self.weight[rows_U] -= gradient_UD * step_U.unsqueeze(-1)

    def state(self, num_rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Copies of the first rows: (weights, what only training needs)."""
        weight, total, period = (
            column[:num_rows].cpu().numpy().copy() for column in (self.weight, self._sum_I, self._period_I)
        )
        return {"items.weight": weight}, {"items.gradient_sum": total, "items.period": period}

    def load(self, model: Mapping[str, np.ndarray], trainer: Mapping[str, np.ndarray]) -> None:
        """Take over the rows of a `state`."""
        count = len(model["items.weight"])
        self.weight[:count] = torch.from_numpy(model["items.weight"]).to(self.weight.device)
        self._sum_I[:count] = torch.from_numpy(trainer["items.gradient_sum"]).to(self.weight.device)
        self._period_I[:count] = torch.from_numpy(trainer["items.period"]).to(self.weight.device)
