"""The bar of predicted values: what came with earlier actions on the item."""

from collections.abc import Sequence

import numpy as np

from model.metrics import Floats

_PRIOR_VALUES = 5.0
"""Values at the mean of all that every item begins with."""


def value_bar(items: Sequence[str], values_E: Floats) -> Floats:
    """For each event the mean of asinh(value) over its item's earlier ones, as a value; NaN before any.

    The mean is on the scale that the model predicts on (see `ValueScale`), so both are near the median.
    """
    told_E = np.full(len(items), np.nan)
    of_item: dict[str, tuple[float, int]] = {}
    total, num = 0.0, 0
    for event, (item, value) in enumerate(zip(items, np.arcsinh(values_E).tolist(), strict=True)):
        own, count = of_item.get(item, (0.0, 0))
        if num:
            told_E[event] = (own + _PRIOR_VALUES * total / num) / (count + _PRIOR_VALUES)
        if np.isfinite(value):
            of_item[item] = own + value, count + 1
            total, num = total + value, num + 1
    bar: Floats = np.sinh(told_E)
    return bar
