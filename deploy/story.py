"""The end of the demo: a user, the list, three likes of one genre, the list again from newer weights."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploy.answers import ItemFacts, RecommendAnswer
from deploy.client import ServerClient, send_action
from deploy.genres import genre_runs
from storage.errors import SetupError
from streams.dataset import Dataset
from streams.items import Item
from streams.kafka_settings import KafkaSettings
from streams.topics import TopicSettings

LIST_LENGTH = 10
"""Length of the lists that are shown and compared."""
NUM_LIKES = 3
NEW_WEIGHTS_SECONDS = 60.0
"""How long the likes may take into the weights that answer."""
RARE_SHARE = 0.2
"""A genre of at most this share of a list is rare in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """What was liked by whom, and what that changed."""

    user_id: str
    genre: str
    liked: Sequence[Item]
    before: RecommendAnswer
    after: RecommendAnswer

    @property
    def share_before(self) -> float:
        """Share of the genre in the list before the likes."""
        return genre_share(self.before.items, self.genre)

    @property
    def share_after(self) -> float:
        """Share of the genre in the list after them."""
        return genre_share(self.after.items, self.genre)


def genre_share(items: Sequence[ItemFacts], genre: str) -> float:
    """Share of the items that are of the genre.

    >>> war = ItemFacts(item_id="1", title="", categories=["War"])
    >>> genre_share([war, war.model_copy(update={"categories": []})], "War")
    0.5
    """
    return sum(genre in item.categories for item in items) / max(1, len(items))


def pick_user(dataset: Dataset) -> str:
    """The user of middling activity who came last: known to the model, and neither a newcomer nor a regular."""
    counts = Counter(dataset.user_ids)
    middling = sorted(counts.values())[len(counts) // 2]
    return next(user for user in reversed(dataset.user_ids) if counts[user] <= middling)


def pick_genre(
    before: Sequence[ItemFacts], dataset: Dataset, user_id: str, action: str
) -> tuple[str, list[Item]] | None:
    """A genre that is rare in the list and comes in long runs, and items liked in its runs that the user has not met.

    None where the stream has no runs of a genre.
    """
    met = {item for item, user in zip(dataset.item_ids, dataset.user_ids, strict=True) if user == user_id}
    told: dict[str, list[Item]] = {}
    runs = genre_runs(dataset, action)
    for genre in sorted(runs):
        liked = [item_id for item_id, count in runs[genre].liked.most_common() if count and item_id not in met]
        if len(liked) >= NUM_LIKES:
            told[genre] = [dataset.items[item_id] for item_id in liked[:NUM_LIKES]]
    if not told:
        return None
    genre = max(told, key=lambda name: (genre_share(before, name) <= RARE_SHARE, runs[name].rate))
    return genre, told[genre]


def tell_story(
    client: ServerClient,
    kafka: KafkaSettings,
    topics: TopicSettings,
    dataset: Dataset,
    action: str,
    value: float | None,
) -> Story | None:
    """Show a list, like three items of one genre, wait for weights that learned it, show the list again.

    None where there is no genre to tell of. Raises `SetupError` where a process does not answer.
    """
    user_id = pick_user(dataset)
    before = client.recommend(user_id, LIST_LENGTH)
    picked = pick_genre(before.items, dataset, user_id, action)
    if picked is None:
        return None
    genre, items = picked
    partitions = {}
    for item in items:
        sequence = send_action(client, kafka, topics, user_id, item.item_id, action, value)
        partitions[sequence.partition] = sequence.applied
    return Story(user_id=user_id, genre=genre, liked=items, before=before, after=_after(client, user_id, partitions))


def _after(client: ServerClient, user_id: str, partitions: Mapping[int, int]) -> RecommendAnswer:
    deadline = time.monotonic() + NEW_WEIGHTS_SECONDS
    while time.monotonic() < deadline:
        learned = client.health().learned
        if all(learned.get(str(partition), -1) >= offset for partition, offset in partitions.items()):
            return client.recommend(user_id, LIST_LENGTH)
        time.sleep(0.2)
    raise SetupError(f"the likes are not in the weights after {NEW_WEIGHTS_SECONDS:.0f} s; is the learner up?")
