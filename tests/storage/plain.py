"""Made-up changes, and the fold by the letter of its rule, without any of the store's code."""

import random
from collections.abc import Callable
from typing import Any, TypeAlias

from storage.changes import Acted, Change, Exposed, Refused, Updated
from storage.entries import SequenceEvent
from storage.sequence_store import SequenceStore

StoreFactory: TypeAlias = Callable[..., SequenceStore]


def make_changes(num: int, *, seed: int = 0, users: int = 3, items: int = 4, shown: int = 3) -> list[Change]:
    """Changes at nearly every offset below `num`: few users, few items, event times out of order."""
    rng = random.Random(seed)
    made = (_change(rng, offset, f"user{rng.randrange(users)}", items, shown) for offset in range(num))
    return [change for change in made if change is not None]


def plain_fold(changes: list[Change], user_id: str, *, cap: int, until: int = 2**62) -> list[SequenceEvent]:
    """A user's sequence as of offset `until`; offsets are positions of epoch 0."""
    kept: list[dict[str, Any]] = []
    for change in changes:
        if change.offset > until or not isinstance(change, Exposed | Acted) or change.user_id != user_id:
            continue
        if isinstance(change, Exposed):
            for index, item_id in enumerate(change.item_ids):
                kept.append(_event(change, item_id, index, shown=True))
                _cap(kept, cap)
        else:
            _act(kept, change)
            _cap(kept, cap)
    kept.sort(key=lambda event: (event["ts_ms"], event["group"], event["index"]))
    return [
        SequenceEvent(**{name: value for name, value in event.items() if name not in ("shown", "request_id")})
        for event in kept
    ]


def _change(rng: random.Random, offset: int, user_id: str, items: int, shown: int) -> Change | None:
    kind = rng.random()
    ts_ms = rng.randrange(50)
    request_id = rng.choice([None, "r1", "r2"])
    if kind < 0.4:
        item_ids = [f"item{rng.randrange(items)}" for _ in range(rng.randint(1, shown))]
        return Exposed(
            offset=offset, user_id=user_id, ts_ms=ts_ms, kafka_ms=offset, item_ids=item_ids, request_id=request_id
        )
    if kind < 0.85:
        return Acted(
            offset=offset,
            user_id=user_id,
            ts_ms=ts_ms,
            kafka_ms=offset,
            item_id=f"item{rng.randrange(items)}",
            action=rng.randrange(4),
            value=rng.choice([None, 1.0, -2.5]),
            request_id=request_id,
        )
    if kind < 0.9:
        return Updated(offset=offset, user_id=user_id, features={rng.choice("ab"): offset})
    if kind < 0.95:
        return Refused(
            offset=offset, kafka_ms=offset, cause="malformed_json", message="?", key=b"k", head=b"{", size=1, sha256="0"
        )
    return None


def _event(change: Exposed | Acted, item_id: str, index: int, *, shown: bool) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "ts_ms": change.ts_ms,
        "actions": 0,
        "value": None,
        "group": change.offset,
        "index": index,
        "acted": None,
        "last": change.offset,
        "shown": shown,
        "request_id": change.request_id,
    }


def _act(kept: list[dict[str, Any]], change: Acted) -> None:
    shown = [event for event in kept if event["shown"] and event["item_id"] == change.item_id]
    named = [event for event in shown if change.request_id and event["request_id"] == change.request_id]
    if shown:
        event = max(named or shown, key=lambda event: (event["group"], event["index"]))
    else:
        event = _event(change, change.item_id, 0, shown=False)
        kept.append(event)
    event["actions"] |= 1 << change.action
    event["value"] = event["value"] if change.value is None else change.value
    event["acted"] = change.offset if event["acted"] is None else event["acted"]
    event["last"] = change.offset


def _cap(kept: list[dict[str, Any]], cap: int) -> None:
    if len(kept) > cap:
        kept.remove(min(kept, key=lambda event: (event["ts_ms"], event["group"], event["index"])))
