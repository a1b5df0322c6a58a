"""Small streams that are cheap to learn."""

import numpy as np

from model.evaluation import Histories, Interaction
from model.online import OnlineLearner
from model.settings import LearnSettings, ModelSettings

SMALL = ModelSettings(actions=("like", "dislike", "rate"), dim=16, window=32, num_layers=1, content_rows=64)
LEARN = LearnSettings(batch_events=32, replay_events=24, average_steps=1)
"""What is served are the weights as they are, so that it can be held against what the learner scores."""


def markov_stream(num_events: int, *, num_items: int = 60, seed: int = 0, period: int = 0) -> list[Interaction]:
    """Users who walk over items: the next item is one of two successors of the last one, nine times out of ten.

    Twenty users are there at a time; each leaves after twelve events. Items of an even number are liked, the others
    disliked. With a period, the successors are drawn anew after so many events.
    """
    rng = np.random.default_rng(seed)
    items = np.tile(np.arange(num_items), (2, 1))
    successors = rng.permuted(items, axis=1).T
    place, steps = rng.integers(num_items, size=20), np.zeros(20, np.int64)
    stream = []
    for number in range(num_events):
        if period and number % period == 0:
            successors = rng.permuted(items, axis=1).T
        user = int(rng.integers(20))
        walk = successors[place[user], rng.integers(2)]
        place[user] = walk if rng.random() < 0.9 else rng.integers(num_items)
        item, name = int(place[user]), f"u{user}-{steps[user] // 12}"
        steps[user] += 1
        stream.append(Interaction(name, f"i{item}", 1_000 * number, 1 if item % 2 == 0 else 2))
    return stream


def learner_factory(model: ModelSettings = SMALL, learn: LearnSettings = LEARN) -> OnlineLearner:
    """A fresh small learner."""
    return OnlineLearner(model, learn)


def feed(learner: OnlineLearner, stream: list[Interaction], histories: Histories, batch_events: int = 32) -> np.ndarray:
    """Step through a stream; the ranks of all its targets."""
    ranks = [
        learner.step(histories.extend(stream[start : start + batch_events])).targets.ranks
        for start in range(0, len(stream), batch_events)
    ]
    return np.concatenate(ranks)
