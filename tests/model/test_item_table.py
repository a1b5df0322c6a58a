import numpy as np
import torch

from model.item_table import ItemTable

DIM = 8


def table_factory(num_rows: int = 64) -> ItemTable:
    return ItemTable(DIM, num_rows, 0.1, torch.Generator().manual_seed(0), torch.device("cpu"))


def begin(table: ItemTable, *rows: int) -> None:
    table.begin(np.array(rows), torch.zeros(len(rows), DIM))


def learn(table: ItemTable, *rows: int) -> None:
    """A step with a gradient of 1 everywhere."""
    leaf = table.gather(torch.tensor(rows))
    torch.autograd.backward(leaf.sum())
    assert leaf.grad is not None
    table.learn(torch.tensor(rows), leaf.grad)


def test_only_gathered_rows_change_and_by_rowwise_adagrad() -> None:
    """A dense update would touch every row of a large table in every step."""
    table = table_factory()
    begin(table, 0, 1, 2, 3)
    before = table.weight.clone()
    for _ in range(2):
        learn(table, 1, 3)
    assert torch.equal(table.weight[[0, 2]], before[[0, 2]])
    # The sum is 1, then 2.
    torch.testing.assert_close(table.weight[[1, 3]], before[[1, 3]] - 0.1 - 0.1 / 2**0.5)


def test_what_is_remembered_of_gradients_fades_by_period_and_only_when_touched() -> None:
    """In a stream without end a sum that only grows ends in a row that no longer learns."""
    table = table_factory()
    begin(table, 1, 2)
    learn(table, 1, 2)
    table.period = 2
    before = table.weight.clone()
    learn(table, 1)
    learn(table, 2)
    torch.testing.assert_close(table.weight[[1, 2]], before[[1, 2]] - 0.1 / (1 + 0.9**2) ** 0.5)
    before = table.weight.clone()
    learn(table, 1)
    torch.testing.assert_close(table.weight[1], before[1] - 0.1 / (2 + 0.9**2) ** 0.5)


def test_a_rows_first_weights_do_not_depend_on_how_many_ids_come_together() -> None:
    """Later events of a micro-batch would change the scores of earlier ones."""
    one, other = table_factory(), table_factory()
    begin(one, *range(40))
    begin(other, 0)
    begin(other, 1, 2)
    assert torch.equal(one.weight[:3], other.weight[:3])


def test_a_row_begins_with_what_its_id_has_learned_and_noise() -> None:
    """All that was learned of an id before it was admitted would be lost."""
    table = table_factory()
    table.begin(np.array([5]), torch.full((1, DIM), 3.0))
    torch.testing.assert_close(table.weight[5], torch.full((DIM,), 3.0), atol=0.2, rtol=0)
    assert table.weight[5].std() > 0


def test_nothing_is_left_of_a_row_that_is_taken_back() -> None:
    """Its next owner would begin with another's weights, and learn as slowly as that one at its end."""
    table = table_factory()
    begin(table, 1, 2)
    table.period = 7
    for _ in range(3):
        learn(table, 1, 2)
    table.clear(np.array([1]))
    model, trainer = table.state(3)
    assert all((array[1] == 0).all() and (array[2] != 0).any() for array in (model | trainer).values())


def test_a_loaded_table_goes_on_bit_for_bit() -> None:
    """A restart would learn otherwise than the run that it goes on from."""
    table, loaded = table_factory(), table_factory(num_rows=128)
    begin(table, 1, 2)
    table.period = 1
    learn(table, 1, 2)
    loaded.load(*table.state(3))
    for each in (table, loaded):
        each.period = 4
        learn(each, 2)
    assert torch.equal(loaded.weight[:3], table.weight[:3])
