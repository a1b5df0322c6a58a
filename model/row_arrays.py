"""Which arrays of a learner's state have one row for each row of the item table."""

from typing import Final

ROW_ARRAYS: Final = (
    "items.weight",
    "items.live",
    "items.count",
    "memory.successors",
    "memory.counts",
    "rates.items",
    "items.gradient_sum",
    "items.period",
    "items.key",
    "items.first",
    "items.seen",
    "items.number",
    "items.last",
    "popularity.raw",
    "frequency.counts",
    "frequency.last",
    "frequency.born",
    "heartbeat.first_ms",
)
"""Their names; `items.id_bytes` and `items.id_ends` are told row by row, too, but in a form of their own."""
