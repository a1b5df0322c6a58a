"""The making of a list, in stages: retrieve, leave out what was seen, rank, cap what is alike, keep places for news.

What the model, the catalogue and the user know is asked for; nothing here computes, waits or remembers by itself.
"""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from deploy.serve_settings import ServeSettings
from streams.items import Item

MAX_FRESH = 100
"""Most new items that the model scores for the places that are kept for them."""


class Model(Protocol):
    """One version of the model, asked about one user as of one moment."""

    async def best(self, count: int) -> list[tuple[str, float]]:
        """Items and their scores, best first, without those that the user acted on and those not available."""

    async def scores(self, item_ids: Sequence[str]) -> list[float]:
        """The same score for these items."""

    async def probabilities(self, item_ids: Sequence[str]) -> list[dict[str, float]]:
        """Probability of each action on each item."""


class Shelf(Protocol):
    """What there is to show."""

    def get(self, item_id: str) -> Item | None:
        """What is known of an item."""

    def newest(self, since_ms: int) -> list[str]:
        """Items that came since then and may be shown, the newest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """An item of a list."""

    item_id: str
    score: float
    """Of retrieval, plus what the weights of the actions add."""
    actions: dict[str, float] | None = None
    """Probability of each action, where these were asked for."""
    why: Literal["model", "fresh"] = "model"


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a user has seen."""

    acted: Set[str]
    """Items acted on."""
    tired: Set[str]
    """Items shown as often as is enough, without an action."""

    @classmethod
    def of(cls, item_ids: Sequence[str], actions: Sequence[int], max_impressions: int) -> "Seen":
        """From the events of a sequence and their action masks; with 0 `max_impressions` nobody tires.

        >>> Seen.of(["a", "b", "b", "c"], [1, 0, 0, 0], 2).tired
        frozenset({'b'})
        """
        events = list(zip(item_ids, actions, strict=True))
        acted = frozenset(item_id for item_id, mask in events if mask)
        shown = Counter(item_id for item_id, mask in events if not mask)
        tired = [item_id for item_id, count in shown.items() if 0 < max_impressions <= count and item_id not in acted]
        return cls(acted=acted, tired=frozenset(tired))


async def make_slate(
    model: Model, shelf: Shelf, rules: ServeSettings, seen: Seen, *, k: int, now_ms: int
) -> list[Place]:
    """Up to k items, best first, those in the places that are kept for new ones last.

    `now_ms` is the clock's time, by which items are new.

    1. Retrieve the best k; the best `candidates` where they are ranked anew or capped.
    2. Leave out what the user has tired of (what was acted on is left out by retrieval).
    3. Rank: to each score the sum of weight x probability over `action_weights`.
    4. Cap: see `capped`.
    5. Keep the last `fresh_slots` places, never the first place, for new items; see `fresh_items`.
    """
    further = rules.action_weights or rules.max_per_category or rules.max_per_author
    best = await model.best((max(k, rules.candidates) if further else k) + len(seen.tired))
    ranked = await _ranked(model, rules, [pair for pair in best if pair[0] not in seen.tired])
    places = capped(ranked, shelf, rules, k)
    num_fresh = min(rules.fresh_slots, k - 1)
    if num_fresh == 0:
        return places
    kept, rest = places[: k - num_fresh], places[k - num_fresh :]
    fresh = await fresh_items(model, shelf, rules, seen.acted | seen.tired | {place.item_id for place in kept}, now_ms)
    shown = {place.item_id for place in fresh[:num_fresh]}
    others = [place for place in rest if place.item_id not in shown]
    return [*kept, *others[: num_fresh - len(shown)], *fresh[:num_fresh]]


def capped(places: Sequence[Place], shelf: Shelf, rules: ServeSettings, k: int) -> list[Place]:
    """The first k of which at most so many share a category, or an author.

    An item counts in each of its categories, and is passed over where one of them is full. Where too few are left, the
    best of those passed over follow: a list is never shorter for being capped.
    """
    chosen: list[Place] = []
    passed_over: list[Place] = []
    counts: Counter[tuple[str, str]] = Counter()
    for place in places:
        if len(chosen) == k:
            break
        item = shelf.get(place.item_id)
        kinds = _kinds(item, rules) if item else {}
        if any(counts[kind] >= most for kind, most in kinds.items()):
            passed_over.append(place)
        else:
            chosen.append(place)
            counts.update(kinds.keys())
    return [*chosen, *passed_over[: k - len(chosen)]]


async def fresh_items(model: Model, shelf: Shelf, rules: ServeSettings, left_out: Set[str], now_ms: int) -> list[Place]:
    """Of the newest items, those that came within `fresh_seconds`, best first."""
    newest = shelf.newest(now_ms - int(rules.fresh_seconds * 1_000))
    item_ids = [item_id for item_id in newest if item_id not in left_out][:MAX_FRESH]
    if not item_ids:
        return []
    scored = list(zip(item_ids, await model.scores(item_ids), strict=True))
    ranked = await _ranked(model, rules, sorted(scored, key=lambda pair: -pair[1]))
    return [replace(place, why="fresh") for place in ranked]


async def _ranked(model: Model, rules: ServeSettings, scored: Sequence[tuple[str, float]]) -> list[Place]:
    if not rules.action_weights or not scored:
        return [Place(item_id=item_id, score=score) for item_id, score in scored]
    weights = rules.weights
    told = await model.probabilities([item_id for item_id, _ in scored])
    places = [
        Place(item_id=item_id, score=score + sum(weights[name] * row[name] for name in weights), actions=row)
        for (item_id, score), row in zip(scored, told, strict=True)
    ]
    return sorted(places, key=lambda place: -place.score)


def _kinds(item: Item, rules: ServeSettings) -> dict[tuple[str, str], int]:
    """What an item counts as, and the most of each."""
    kinds: dict[tuple[str, str], int] = {}
    if rules.max_per_category:
        kinds |= {("category", name): rules.max_per_category for name in item.categories}
    if rules.max_per_author and item.author:
        kinds["author", item.author] = rules.max_per_author
    return kinds
