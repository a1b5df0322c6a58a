"""Products of each row with items of its own choice, without gathering the items.

Shapes: P rows, D width, V items, S items of each row, C rows of a chunk.
"""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_CHUNK_SAMPLES = 262_144
"""Samples, about, that are sorted at a time: so many stay in a core's cache."""


class SampledProducts(torch.autograd.Function):
    """Dot product of row p with the items samples_PS[p], [P, S].

    Nothing of size [P, S, D] is made: the products are a sampled dense-dense product (or, where there are more samples
    than items, taken from all products), and the gradients are weighted sums of rows (embedding bags): over the samples
    of a row for the rows, over the rows of an item for the items.
    """

    @staticmethod
    def forward(ctx: Any, x_PD: Tensor, items_VD: Tensor, samples_PS: Tensor) -> Tensor:
        """The products [P, S]."""
        ctx.save_for_backward(x_PD, items_VD, samples_PS)
        num_rows, num_samples = samples_PS.shape
        if num_samples > len(items_VD):
            return (x_PD @ items_VD.T).gather(1, samples_PS)
        offsets = torch.arange(0, samples_PS.numel() + 1, num_samples, device=x_PD.device)
        zeros = x_PD.new_zeros(samples_PS.numel())
        size = (num_rows, len(items_VD))
        with warnings.catch_warnings():
            # torch warns once that its sparse tensors are in beta; of them only this product is used here.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            pattern_PV = torch.sparse_csr_tensor(offsets, samples_PS.flatten(), zeros, size, check_invariants=False)
        products_PV: Tensor = torch.sparse.sampled_addmm(pattern_PV, x_PD, items_VD.T, beta=0)
        return products_PV.values().view(num_rows, num_samples)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of rows and items."""
        x_PD, items_VD, samples_PS = ctx.saved_tensors
        dx_PD, ditems_VD = torch.empty_like(x_PD), torch.zeros_like(items_VD)
        size = max(_CHUNK_SAMPLES, len(items_VD)) // samples_PS.shape[1] + 1
        for start in range(0, len(x_PD), size):
            rows = slice(start, start + size)
            samples_CS, weights_CS = samples_PS[rows], grads[0][rows]
            dx_PD[rows] = _sums_over_samples(items_VD, samples_CS, weights_CS)
            ditems_VD += _sums_over_rows(x_PD[rows], samples_CS, weights_CS, len(items_VD))
        return dx_PD, ditems_VD, None


def _sums_over_samples(items_VD: Tensor, samples_CS: Tensor, weights_CS: Tensor) -> Tensor:
    """Of each row, its samples' items by weight, [C, D]."""
    return F.embedding_bag(samples_CS, items_VD, mode="sum", per_sample_weights=weights_CS)


def _sums_over_rows(x_CD: Tensor, samples_CS: Tensor, weights_CS: Tensor, num_items: int) -> Tensor:
    """Of each item, the rows that it is a sample of by weight, [V, D]."""
    samples = samples_CS.flatten()
    order = torch.sort(samples, stable=True).indices
    ends_V = torch.bincount(samples, minlength=num_items).cumsum(0)
    rows, weights = order // samples_CS.shape[1], weights_CS.flatten()[order]
    return F.embedding_bag(rows, x_CD, F.pad(ends_V, (1, -1)), mode="sum", per_sample_weights=weights)
