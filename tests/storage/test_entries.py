import random

import numpy as np
import pytest

from storage.changes import Acted, Exposed
from storage.entries import NO_ENTRIES, Entries, entries_from, num_rows, pack_position, unpack_position
from tests.storage.records import acted, arrived, exposed, rows_of

FRAGMENT = (
    "03000000"
    "0700000000000300e7030000000000000800000000000000784aec3b5e2ee7e51f4e961eb632c6e6350bafb4f7387bbd"
    "000000000000f87f0000ff0100"
    "0700000000000300e7030000000000000800000000000000784aec3b5e2ee7e58e80a021f4ec4f0b350bafb4f7387bbd"
    "000000000000f87f0100ff0400"
    "0800000000000300e8030000000000000900000000000000000000000000000011cdb280646cf0ea0000000000000000"
    "00000000000004c00000020100"
    "61f09f988078"
)
"""The number of rows; of each position, times, event id, item, request, value, place, action, size; the items."""


def golden_rows() -> Entries:
    return rows_of(
        exposed(7, "a", "\U0001f600", ts_ms=999, request_id="r", event_id="e"),
        acted(8, "x", ts_ms=1_000, action=2, value=-2.5),
        epoch=3,
    )


def test_a_fragment_is_these_bytes() -> None:
    """Another layout of rows, or another hash, is another format."""
    assert golden_rows().to_bytes().hex() == FRAGMENT
    found = entries_from([bytes.fromhex(FRAGMENT)])
    assert found.rows["position"].tolist() == [pack_position(3, 7), pack_position(3, 7), pack_position(3, 8)]
    assert found.rows["index"].tolist() == [0, 1, 0]
    assert found.rows["action"].tolist() == [-1, -1, 2]
    assert found.rows["ts_ms"].tolist() == [999, 999, 1_000]
    assert found.rows["kafka_ms"].tolist() == [8, 8, 9]
    assert np.isnan(found.rows["value"]).tolist() == [True, True, False]
    assert found.item_ids(np.arange(3)) == ["a", "\U0001f600", "x"]


def test_a_position_holds_an_epoch_and_an_offset() -> None:
    """A record of the topic made anew comes after all of the former one."""
    assert unpack_position(pack_position(5, 2**48 - 1)) == (5, 2**48 - 1)
    assert pack_position(0, 2**48 - 1) < pack_position(1, 0) < pack_position(1, 1)


def test_several_values_are_read_as_one_from_where_they_begin() -> None:
    """Blocks have a head before their rows."""
    value = golden_rows().to_bytes()
    found = entries_from([b"head" + value, b"HEAD" + value], 4)
    assert len(found) == 6
    assert found.item_ids(np.array([5, 1])) == ["x", "\U0001f600"]
    assert num_rows(b"head" + value, 4) == 3
    assert len(entries_from([])) == 0


def test_rows_are_taken_cut_and_joined_with_their_items() -> None:
    """A row with the item of its neighbour is the worst kind of damage: nothing notices."""
    rows = rows_of(exposed(1, "é", "b"), exposed(2, "", "dd"), acted(4, "e"))
    taken = rows.take(np.array([3, 0]))
    assert (taken.rows["position"].tolist(), taken.items) == ([2, 1], "ddé".encode())
    assert [rows.until(position).items.decode() for position in (0, 1, 2, 3, 4)] == [
        "", "éb", "ébdd", "ébdd", "ébdde",
    ]  # fmt: skip
    assert Entries.join([NO_ENTRIES, rows]) is rows
    joined = Entries.join([rows.until(1), NO_ENTRIES, rows.take(np.array([3, 4]))])
    assert joined.item_ids(np.arange(4)) == ["é", "b", "dd", "e"]
    assert len(Entries.join([])) == 0


@pytest.mark.parametrize(
    "value",
    [b"", b"\x01", b"\0\0\0", b"\x01\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0x", bytes.fromhex(FRAGMENT)[:-1]],
    ids=["empty", "one", "no count", "no rows", "too many", "items of nobody", "torn"],
)
def test_bytes_that_are_no_rows_are_refused(value: bytes) -> None:
    """Rows that are made of anything at hand would be learned."""
    with pytest.raises(ValueError, match=r"bytes cannot hold \d+ rows|item ids take \d+ bytes"):
        entries_from([value])
    with pytest.raises(ValueError):
        entries_from([b"head" + value], 4)


def test_damaged_bytes_are_read_or_refused_and_nothing_else() -> None:
    """An index out of range in the middle of a read would stop the worker without a word of what to do."""
    rng = random.Random(1)
    golden = bytes.fromhex(FRAGMENT)
    num_refused = 0
    for _ in range(500):
        value = bytearray(golden)
        value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
        try:
            found = entries_from([bytes(value[: rng.choice([len(value), rng.randrange(len(value))])])])
            found.item_ids(np.arange(len(found)))
        except ValueError:
            num_refused += 1
    assert num_refused > 250


def test_records_of_a_chunk_are_brought_together_by_user_in_the_order_of_the_log() -> None:
    """A row that is written to another user's sequence is never found again."""
    changes: list[Exposed | Acted] = [
        acted(1, "a", user_id="ada"),
        exposed(2, "b", "c", user_id="bob"),
        exposed(3, "d", "e", user_id="ada"),
        acted(4, "f", user_id="bob"),
    ]
    arrivals = arrived(changes, epoch=1)
    groups = arrivals.groups
    assert (groups.user_ids, groups.bounds.tolist(), len(arrivals)) == (["ada", "bob"], [0, 2, 4], 4)
    assert groups.order.tolist() == [0, 2, 1, 3]
    assert [arrivals.position(place) for place in range(4)] == [pack_position(1, offset) for offset in (1, 3, 2, 4)]
    values, firsts = arrivals.values(np.array([0, 2, 4]), np.array([2, 4, 4]))
    assert [entries_from([value]).items for value in values[:2]] == [b"ade", b"bcf"]
    assert (values[2], firsts) == (b"", [pack_position(1, 1), pack_position(1, 2), -1])
    arrivals.taken[2] = False
    assert [arrivals.entries(*cut).items for cut in ((0, 0), (1, 2), (0, 2), (1, 3))] == [b"", b"", b"a", b"bc"]
    assert len(arrived([])) == 0
