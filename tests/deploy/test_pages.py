"""Tables that commands print."""

import io

from rich.console import Console
from rich.table import Table

from deploy.answers import RecommendAnswer, Recommendation
from deploy.pages import dead_letter_table, freshness_table, recommendation_table
from streams.dead_letters import DeadLetterRecord


def printed(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(table)
    return out.getvalue()


ANSWER = RecommendAnswer(
    user_id="17",
    model_version="run/v3",
    model_age_seconds=2.345,
    alias="champion",
    applied=7,
    items=[
        Recommendation(item_id="50", title="Star Wars (1977)", categories=["Action", "Sci-Fi"], score=1.234),
        Recommendation(item_id="x", title="", categories=[], score=-0.5),
    ],
)


def test_a_list_is_numbered_and_says_whose_and_of_which_model() -> None:
    """Two lists, before and after, must be told apart."""
    text = printed(recommendation_table(ANSWER))
    assert "for user 17" in text
    assert "model run/v3, 2.3 s old" in text
    (first,) = [line for line in text.splitlines() if "Star Wars" in line]
    assert all(cell in first for cell in ("1", "50", "Star Wars (1977)", "Action, Sci-Fi", "1.23"))
    (second,) = [line for line in text.splitlines() if "-0.50" in line]
    assert "2" in second
    assert "User 17 now" in printed(recommendation_table(ANSWER, "User 17 now"))


def test_brackets_in_a_title_are_no_markup() -> None:
    """A title of a user's own catalogue would vanish from the list, or end it with a traceback."""
    item = Recommendation(item_id="[red]", title="[/b] REC [bold]", categories=[], score=1.0)
    assert "[/b] REC [bold]" in printed(recommendation_table(ANSWER.model_copy(update={"items": [item]})))


def test_each_part_of_the_freshness_has_its_line() -> None:
    """Quantiles that are swapped look right."""
    delays = {"count": 3, "p50_seconds": 0.25, "p95_seconds": 1.5}
    none = {"count": 0, "p50_seconds": None, "p95_seconds": None}
    answer = {"event_to_weights": {**delays, "p95_seconds": 4.25}, "parts": {"queue": delays, "cut": none}}
    cells = [line.replace("│", "").split() for line in printed(freshness_table(answer)).splitlines()]
    assert ["queue", "0.25", "s", "1.50", "s"] in cells
    assert ["cut", "-", "-"] in cells
    assert ["together", "0.25", "s", "4.25", "s"] in cells


def test_a_dead_letter_says_where_it_was_and_why() -> None:
    """A refused record could not be found again."""
    letter = DeadLetterRecord(
        cause="too_large",
        message="value must be 1 to 262144 bytes, got 921600",
        topic="events",
        partition=3,
        offset=4711,
        kafka_ms=0,
        size=921_600,
        sha256="0123456789abcdef" * 4,
        key=b"17",
        head=b"{",
        letter_id="0-3-4711",
    )
    text = printed(dead_letter_table([letter]))
    assert "1 refused" in text
    for cell in ("too_large", "events[3]@4711", "921600", "01234567", "got 921600"):
        assert cell in text
    assert "0 refused" in printed(dead_letter_table([]))
