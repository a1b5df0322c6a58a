import torch

from model.item_table import ItemTable, pack_ids, unpack_ids


def table_factory(capacity: int = 4) -> ItemTable:
    return ItemTable(8, capacity, 0.1, torch.Generator().manual_seed(0), torch.device("cpu"))


def test_rows_keep_their_weights_and_ids_when_the_table_grows() -> None:
    """Growth that lost a row would reset what was learned of it."""
    table = table_factory()
    for number in range(4):
        table.admit(f"i{number}")
    table.accumulator[2] = 5.0
    before = table.weight.clone()
    for number in range(4, 100):
        assert table.admit(f"i{number}") == number
    assert torch.equal(table.weight[:4], before)
    assert table.accumulator[2] == 5.0
    assert table.lookup(["i3", "nobody", "i99"]).tolist() == [3, -1, 99]
    assert len(table.weight) == 128


def test_only_gathered_rows_change_and_by_rowwise_adagrad() -> None:
    """A dense update would touch every row of a large table in every step."""
    table = table_factory()
    for number in range(4):
        table.admit(f"i{number}")
    before = table.weight.clone()
    rows = torch.tensor([1, 3])
    for _ in range(2):
        leaf = table.gather(rows)
        torch.autograd.backward(leaf.sum())
        assert leaf.grad is not None
        table.learn(rows, leaf.grad)
    assert torch.equal(table.weight[[0, 2]], before[[0, 2]])
    # Gradient 1 everywhere: the accumulator is 1, then 2.
    torch.testing.assert_close(table.weight[[1, 3]], before[[1, 3]] - 0.1 - 0.1 / 2**0.5)
    assert table.accumulator.tolist() == [0.0, 2.0, 0.0, 2.0]


def test_a_rows_first_weights_do_not_depend_on_how_many_ids_come_together() -> None:
    """Later events of a micro-batch would change the scores of earlier ones."""
    one, other = table_factory(), table_factory(capacity=64)
    for number in range(40):
        one.admit(f"i{number}")
    for number in range(3):
        other.admit(f"i{number}")
    assert torch.equal(one.weight[:3], other.weight[:3])


def test_ids_of_any_unicode_survive_packing() -> None:
    """Ids are the users' own: 256 bytes of anything."""
    ids = ["", "a", "日本語" * 20, "\x00\n", "🎬", "\ud800"]
    assert unpack_ids(*pack_ids(ids)) == ids
    assert unpack_ids(*pack_ids([])) == []
