"""The catalogue's records: their limits and their JSON."""

import pytest

from streams.items import InvalidItemError, Item, decode_item, encode_item


def test_an_item_survives_its_encoding() -> None:
    item = Item(item_id="50", title="Star Wars (1977)", categories=("Action",), available=False, ts_ms=5)
    assert decode_item(b"50", encode_item(item)) == item


def test_fields_that_this_version_does_not_know_are_ignored() -> None:
    """A newer producer must not make older servers lose titles."""
    assert decode_item(b"a", b'{"item_id":"a","price":3}') == Item(item_id="a")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (b"a", b'{"item_id":', "truncated"),
        (b"a", b"\xff", "malformed"),
        (b"a", b'{"title":"x"}', "missing required field"),
        (b"a", b'{"item_id":"a","title":5}', "Expected `str`"),
        (b"a", b'{"item_id":"a","available":1}', "Expected `bool`"),
        (b"a", b'{"item_id":"a","ts_ms":-1}', ">= 0"),
        (b"a", b'{"item_id":"a","categories":["",""]}', "length >= 1"),
        (b"", b'{"item_id":""}', "length >= 1"),
        (b"b", b'{"item_id":"a"}', "key must equal item_id"),
        (None, b'{"item_id":"a"}', "key must equal item_id"),
        (b"a", b'{"item_id":"a","title":"' + b"x" * 1_001 + b'"}', "length <= 1000"),
        (b"a", b" " * (256 * 1024 + 1), "at most 262144 bytes"),
    ],
)
def test_what_is_no_item_is_refused_with_a_reason(key: bytes | None, value: bytes, message: str) -> None:
    with pytest.raises(InvalidItemError, match=message):
        decode_item(key, value)


def test_ids_are_measured_in_bytes() -> None:
    """256 characters can be a kilobyte of UTF-8, which no other part of the path accepts."""
    item_id = "é" * 129
    with pytest.raises(InvalidItemError, match="got 258"):
        decode_item(item_id.encode(), encode_item(Item(item_id=item_id)))
