"""Microseconds for an event: encoded, checked by its producer, decoded and checked by a worker, placed.

    python -m tests.benchmarks.event_costs

One thread, processor time, the best of seven runs.
"""

import time
import timeit
from collections.abc import Callable
from functools import partial

from streams.events import Action, Encoding, Impression, check_event, decode_event, encode_event
from streams.partitioning import partition_of, partitions_of

ACTIONS = frozenset({"view", "click", "like", "hide"})
NOW_MS = 1_764_000_004_000
EVENTS: dict[str, Action | Impression] = {
    "action": Action(user_id="u123", item_id="i56", action="click", ts_ms=NOW_MS),
    "action with id, value, request": Action(
        event_id="a12345", user_id="u1234", item_id="i567", action="like", value=4.5, request_id="r77", ts_ms=NOW_MS
    ),
    "impression of 20 items": Impression(
        user_id="u1234", request_id="r77", items=[f"item{number}" for number in range(20)], ts_ms=NOW_MS
    ),
}


def microseconds(work: Callable[[], object], times: int = 20_000) -> float:
    """What one call takes."""
    return min(timeit.repeat(work, timer=time.process_time, number=times, repeat=7)) / times * 1e6


def main() -> None:
    """Measure and print."""
    encodings: tuple[Encoding, ...] = ("json", "msgpack")
    print(f"{'':32} {'':8} {'bytes':>6} {'encode':>7} {'check':>7} {'decode':>7}")
    for name, event in EVENTS.items():
        for encoding in encodings:
            value = encode_event(event, encoding)
            costs = (
                microseconds(partial(encode_event, event, encoding)),
                microseconds(partial(check_event, event)),
                microseconds(partial(decode_event, event.user_id.encode(), value, NOW_MS, ACTIONS)),
            )
            print(f"{name:32} {encoding:8} {len(value):6} " + " ".join(f"{cost:7.2f}" for cost in costs))
    users = [f"user-{number:08}" for number in range(5_000)]
    keys = [user.encode() for user in users]
    alone = microseconds(lambda: [partition_of(user, 8) for user in users], 3) / len(users)
    together = microseconds(lambda: partitions_of(keys, 8), 30) / len(keys)
    print(f"placed by kafka-python's murmur2 {alone:.2f}, by partitions_of {together:.2f} (5,000 users of 13 bytes)")


if __name__ == "__main__":
    main()
