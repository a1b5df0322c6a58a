"""Tables that commands print."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from deploy.answers import RecommendAnswer
from streams.dead_letter_replay import ReplayedLetter
from streams.dead_letters import DeadLetterRecord


def recommendation_table(answer: RecommendAnswer, title: str = "") -> Table:
    """A /recommend answer as a table."""
    heading = title or f"for user {answer.user_id}"
    caption = f"model {answer.model_version}, {answer.model_age_seconds:.1f} s old"
    table = Table("", "item", "title", "categories", "score", title=heading, caption=caption, title_justify="left")
    for place, item in enumerate(answer.items, 1):
        cells = (Text(cell) for cell in (item.item_id, item.title, ", ".join(item.categories)))
        table.add_row(str(place), *cells, f"{item.score:.2f}")
    return table


def freshness_table(freshness: Mapping[str, Any]) -> Table:
    """A /freshness answer as a table: each part of the way into the weights that answer, then the whole."""
    table = Table("part", "p50", "p95")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, delays in [*freshness["parts"].items(), ("together", freshness["event_to_weights"])]:
        cells = ("-" if delays[of] is None else f"{delays[of]:.2f} s" for of in ("p50_seconds", "p95_seconds"))
        table.add_row(name, *cells)
    return table


def dead_letter_table(letters: Sequence[DeadLetterRecord]) -> Table:
    """Refused records as a table, oldest first: why, where, how large, the begin of the sha256, and the message."""
    table = Table("cause", "record", "bytes", "sha256", "message", title=f"{len(letters)} refused")
    for column in table.columns[:4]:
        column.no_wrap = True
    for letter in letters:
        place = f"{letter.topic}[{letter.partition}]@{letter.offset}"
        table.add_row(letter.cause, place, str(letter.size), letter.sha256[:8], Text(letter.message))
    return table


def replayed_table(replayed: Sequence[ReplayedLetter], *, dry_run: bool) -> Table:
    """What became of dead letters that were sent again, or would become of them."""
    num_sent = sum(letter.result == "sent" for letter in replayed)
    title = f"{num_sent} of {len(replayed)} {'would be sent' if dry_run else 'sent again'}"
    table = Table("result", "record", "was", "message", title=title)
    for column in table.columns[:3]:
        column.no_wrap = True
    for letter in replayed:
        place = f"{letter.topic}[{letter.partition}]@{letter.offset}"
        table.add_row(letter.result, place, letter.cause, Text(letter.message))
    return table
