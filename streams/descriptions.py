"""What the model is told of an item of the catalogue: words, by kind."""

import re
from collections.abc import Iterator

from model.contents import Description
from streams.items import Item

_WORD = re.compile(r"\w{2,}")


def description_of(item: Item) -> Description:
    """What the model takes of an item: who made it, what it belongs to, then the words of title and text.

    >>> description_of(Item(item_id="50", title="Star Wars (1977)", categories=("Action",), author="Lucas")).words
    ('author Lucas', 'category Action', 'word star', 'word wars', 'word 1977')
    """
    words = () if item.forgotten else tuple(_words(item))
    return Description(
        item_id=item.item_id,
        words=words,
        available=item.is_shown,
        forgotten=item.forgotten,
    )


def _words(item: Item) -> Iterator[str]:
    if item.author:
        yield f"author {item.author}"
    for category in item.categories:
        yield f"category {category}"
    for text in (item.title, item.text):
        for word in _WORD.findall(text.lower()):
            yield f"word {word}"
