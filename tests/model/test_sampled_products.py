import numpy as np
import pytest
import torch
from torch import Tensor

from model.sampled_products import SampledProducts


@pytest.mark.parametrize(("num_rows", "num_items", "num_samples"), [(1, 1, 1), (7, 5, 3), (40, 11, 29)])
def test_products_and_gradients_are_those_of_gathered_items(num_rows: int, num_items: int, num_samples: int) -> None:
    """Items drawn twice for one row, or never, are where a scatter goes wrong."""
    generator = torch.Generator().manual_seed(num_rows)
    x_PD = torch.randn(num_rows, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    items_VD = torch.randn(num_items, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    samples_PS = torch.randint(num_items, (num_rows, num_samples), generator=generator)
    slope_PS = torch.randn(num_rows, num_samples, dtype=torch.float64, generator=generator)
    products_PS: Tensor = SampledProducts.apply(x_PD, items_VD, samples_PS)  # type: ignore[no-untyped-call]  # torch declares no types for it
    naive_PS = torch.einsum("pd,psd->ps", x_PD, items_VD[samples_PS])
    gradients = torch.autograd.grad(products_PS, (x_PD, items_VD), slope_PS)
    naive = torch.autograd.grad(naive_PS, (x_PD, items_VD), slope_PS)
    for got, expected in zip((products_PS, *gradients), (naive_PS, *naive), strict=True):
        np.testing.assert_allclose(got.detach(), expected.detach(), rtol=1e-12, atol=1e-12)
