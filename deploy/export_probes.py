"""Made histories and what Headwater answers to them: what an export is held against, wherever it is loaded.

Their items are drawn from the vocabulary; they are nobody's.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from model.recommender import Recommender
from model.sequence import UserSequence
from model.user_features import UserFeature

_K = 100
_NUM_RANKED = 40
_UNKNOWN = ("headwater probe: an id without a row", "headwater probe: another")


def make_probes(recommender: Recommender, item_ids: Sequence[str], event_time_ms: int) -> list[dict[str, Any]]:
    """Histories without events, short, longer than the window, of strange items, with features; as JSON values."""
    rng = np.random.default_rng(0)
    known = list(item_ids) or list(_UNKNOWN)
    probes = []
    for count, features in _shapes(recommender.settings.window):
        sequence = _history(rng, known, count, event_time_ms, len(recommender.settings.actions), features)
        asked = [*rng.choice(known, _NUM_RANKED).tolist(), *_UNKNOWN]
        probes.append(_answered(recommender, sequence, event_time_ms, asked))
    return probes


def _shapes(window: int) -> Iterator[tuple[int, bool]]:
    """Numbers of events, and whether something is known of the user."""
    for count in (0, 1, 2, 20, window, 3 * window):
        yield count, False
        yield count, True


def _history(
    rng: np.random.Generator, item_ids: list[str], count: int, now_ms: int, num_actions: int, with_features: bool
) -> UserSequence:
    chosen = rng.choice([*item_ids[:10_000], *_UNKNOWN] if count > 2 else item_ids, count).tolist()
    # From days to less than a second before now, two or three of an impression, one in three not acted on.
    ages_ms = np.sort(np.exp(rng.uniform(0, 20, count)).astype(np.int64))[::-1]
    ts_ms = now_ms - ages_ms
    masks = rng.integers(1 << num_actions, size=count) * (rng.random(count) < 2 / 3)
    places = np.sort(rng.integers(count + 1, size=8))
    features = [
        UserFeature(int(ts_ms[place]) if place < count else now_ms, int(place), f"probe {number % 3}", number)
        for number, place in enumerate(places.tolist())
    ]
    return UserSequence(
        user_id="",
        item_ids=chosen,
        ts_ms=ts_ms,
        actions=masks,
        values=np.full(count, np.nan, np.float32),
        groups=np.cumsum(rng.random(count) < 0.4),
        new=np.zeros(count, np.int64),
        order=np.zeros(count, np.int64),
        features=features if with_features else (),
    )


def _answered(recommender: Recommender, sequence: UserSequence, now_ms: int, asked: list[str]) -> dict[str, Any]:
    predicts = recommender.settings.predict_values
    return {
        "events": {
            "item_ids": sequence.item_ids,
            "ts_ms": sequence.ts_ms.tolist(),
            "actions": sequence.actions.tolist(),
            "groups": sequence.groups.tolist(),
            "features": [list(each) for each in sequence.features],
        },
        "now_ms": now_ms,
        "k": _K,
        "recommend": recommender.recommend(sequence, now_ms=now_ms, k=_K),
        "item_ids": asked,
        "rank": recommender.rank(sequence, now_ms=now_ms, item_ids=asked),
        "values": recommender.values(sequence, now_ms=now_ms, item_ids=asked) if predicts else None,
    }
