"""The records of the compacted topic `items`: what an item is called, what it is about, whether it may be shown."""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from streams.events import MAX_EVENT_BYTES, MAX_ID_BYTES, Id, Time

MAX_TITLE_LENGTH = 1_000
"""Most characters of a title."""
MAX_TEXT_LENGTH = 10_000
"""Most characters of a text."""
MAX_CATEGORIES = 64
"""Most categories of an item."""


class InvalidItemError(ValueError):
    """A record that is no valid item."""


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the catalogue knows of one item; its record's key is the item id, a record without a value removes it."""

    item_id: Id
    title: Annotated[str, Meta(max_length=MAX_TITLE_LENGTH)] = ""
    categories: Annotated[tuple[Id, ...], Meta(max_length=MAX_CATEGORIES)] = ()
    author: Annotated[str, Meta(max_length=MAX_TITLE_LENGTH)] = ""
    """Who made it, or sells it."""
    text: Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)] = ""
    """What it is about, in words; the model reads the first few."""
    available: bool = True
    """Whether it may be recommended now."""
    forgotten: bool = False
    """Whether nothing may be kept or learned of it (see `headwater forget item`)."""
    ts_ms: Time = 0
    """When this was so, milliseconds since 1970."""

    @property
    def is_shown(self) -> bool:
        """Whether it may be in an answer."""
        return self.available and not self.forgotten


class Withdrawn(NamedTuple):
    """An item of which the catalogue says nothing any more."""

    item_id: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Item)


def encode_item(item: Item) -> bytes:
    """The item as JSON.

    >>> encode_item(Item(item_id="50", title="Star Wars (1977)"))
    b'{"item_id":"50","title":"Star Wars (1977)"}'
    """
    return _encoder.encode(item)


def decode_item(key: bytes | None, value: bytes) -> Item:
    """Read one record of the topic `items`; raises `InvalidItemError`."""
    if len(value) > MAX_EVENT_BYTES:
        raise InvalidItemError(f"value must be at most {MAX_EVENT_BYTES} bytes, got {len(value)}")
    try:
        item = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidItemError(str(error)) from error
    for name in (item.item_id, *item.categories):
        size = len(name.encode("utf-8", "surrogatepass"))
        if size > MAX_ID_BYTES:
            raise InvalidItemError(f"ids and categories must be 1 to {MAX_ID_BYTES} bytes of UTF-8, got {size}")
    if key != item.item_id.encode("utf-8", "surrogatepass"):
        raise InvalidItemError(f"key must equal item_id, got {(key or b'')[:64]!r} for {item.item_id[:64]!r}")
    return item


def decode_news(key: bytes | None, value: bytes | None) -> Item | Withdrawn:
    """Read one record of the topic `items`, where one without a value withdraws; raises `InvalidItemError`."""
    if value is None:
        return Withdrawn((key or b"").decode("utf-8", "replace"))
    return decode_item(key, value)
