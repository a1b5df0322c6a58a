from types import SimpleNamespace
from typing import Any, cast

import faust

from streams.chunks import LogPositions
from streams.readiness import Readiness


class Consumer:
    """Stands for the consumer of partitions 0 and 1."""

    flow_active = True
    lives = True
    member = "worker-1"
    records: dict[int, int | None]

    def __init__(self) -> None:
        self.records = {0: 0, 1: 0}

    def in_group(self) -> bool:
        return self.lives

    def member_id(self) -> str:
        return self.member

    def behind(self) -> dict[int, int | None]:
        return self.records


def _missing(consumer: Consumer, *, held: Any = (0, 1), rebalancing: bool = False) -> str | None:
    app = cast("faust.App", SimpleNamespace(consumer=consumer, rebalancing=rebalancing))
    return Readiness(app, cast("LogPositions", SimpleNamespace(held=set(held)))).missing()


def test_a_worker_that_has_caught_up_is_ready() -> None:
    consumer = Consumer()
    assert _missing(consumer) is None
    consumer.records = {}
    assert _missing(consumer, held=()) is None


def test_a_worker_says_what_it_waits_for() -> None:
    """A load balancer sends users to a worker that answers with sequences of last week."""
    consumer = Consumer()
    waiting = "waiting for the group to assign partitions"
    assert _missing(consumer, rebalancing=True) == waiting
    consumer.member = ""
    assert _missing(consumer) == waiting
    consumer.member = "worker-1"
    assert _missing(consumer, held=(0,)) == "partition 1 is being opened"
    consumer.records = {0: 0, 1: 7}
    assert _missing(consumer) == "partition 1 is 7 records behind what was there when it was assigned"
    consumer.records = {0: None, 1: 0}
    assert _missing(consumer) == "partition 0 is not read yet"
    consumer.flow_active = False
    assert _missing(consumer) == waiting
    consumer.lives = False
    assert _missing(consumer) == "the consumer left its group"
