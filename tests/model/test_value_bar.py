"""What is told of a value by its item's earlier ones."""

import numpy as np
import pytest

from model.value_bar import value_bar


def test_an_item_is_told_by_its_own_values_the_more_it_has() -> None:
    """A bar that forgot the item would be beaten by anything."""
    items = ["a", "b"] * 200
    told = value_bar(items, np.array([10.0, 1_000.0] * 200))
    assert np.isnan(told[0])
    assert told[1] == pytest.approx(10)
    assert told[2] > told[20] > told[-2]
    assert 10 < told[-2] < 12
    assert 900 < told[-1] < 1_000


def test_no_bar_follows_from_what_comes_after_it_nor_from_what_has_no_value() -> None:
    values = np.array([5.0, np.nan, 7.0, np.nan, 100.0])
    told = value_bar(["a"] * 5, values)
    assert told[3] == told[4]
    assert value_bar(["a"] * 4, values[:4]).tolist()[1:] == told[1:4].tolist()
