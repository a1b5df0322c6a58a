"""Tables that commands print."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from streams.dead_letters import DeadLetterRecord


def recommendation_table(answer: Mapping[str, Any], title: str = "") -> Table:
    """A /recommend answer as a table."""
    heading = title or f"for user {answer['user_id']}"
    caption = f"model {answer['model_version']}, {answer['model_age_seconds']:.1f} s old"
    table = Table("", "item", "title", "categories", "score", title=heading, caption=caption, title_justify="left")
    for place, item in enumerate(answer["items"], 1):
        score = f"{item['score']:.2f}"
        table.add_row(str(place), item["item_id"], item["title"], ", ".join(item["categories"]), score)
    return table


def dead_letter_table(letters: Sequence[DeadLetterRecord]) -> Table:
    """Refused records as a table, in the order of their offsets."""
    table = Table(
        "cause", "topic", "partition", "offset", "bytes", "sha256", "message", title=f"{len(letters)} refused"
    )
    for letter in letters:
        where = (letter.topic, str(letter.partition), str(letter.offset))
        table.add_row(letter.cause, *where, str(letter.size), letter.sha256[:12], letter.message)
    return table
