"""Several questions of one version answered together, each from what is kept of its user.

Shapes: E items, Q questions, D width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from model.question import BestItems, GivenItems, Question
from model.recommender import Recommender
from model.user_cache import UserCache, UserCaches
from model.window_batch import WindowBatch


class Answering:
    """Answers as `Recommender` does, but for rounding, and computes only what is new of a user; for one thread.

    For each question, in turn: (1) the window's tokens are compared with those that the user's cache was made of;
    (2) from the first that differs on, keys and values are computed anew; (3) items that are to be ranked are scored
    against them. Where several users ask for their best items, the catalogue is gone through once for all of them.
    A window that is full moves on with each event, so that nothing of it is as before: it is computed anew then.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.caches = UserCaches(limit_bytes)
        """A limit of 0 keeps nothing."""

    @torch.inference_mode()
    def answer(self, recommender: Recommender, questions: Sequence[Question[Any]]) -> list[Any]:
        """Answers in the order of the questions; raises what any of them raises."""
        answers: list[Any] = [[] for _ in questions]
        searches: dict[int, tuple[BestItems, Tensor]] = {}
        for place, question in enumerate(questions):
            user_id = question.sequence.user_id
            # A cache that something failed in is not put back.
            cache = self.caches.take(user_id, recommender.identity, recommender.encoder)
            batch, x_nD = recommender.history(question.sequence, question.now_ms)
            query_D = cache.take_in(recommender.encoder, batch, x_nD)
            if isinstance(question, BestItems):
                searches[place] = question, query_D
            elif isinstance(question, GivenItems):
                answers[place] = _ranked(recommender, question, cache, batch)
            self.caches.put(user_id, cache)
        if searches:
            asked, queries = zip(*searches.values(), strict=True)
            for place, best in zip(searches, recommender.best_items(asked, torch.stack(queries)), strict=True):
                answers[place] = best
        return answers


def _ranked(
    recommender: Recommender, question: GivenItems, cache: UserCache, batch: WindowBatch
) -> list[dict[str, float]]:
    if not question.item_ids:
        return []

    def score(items_ED: Tensor) -> Tensor:
        return cache.history.score(recommender.encoder, items_ED, question.now_ms // 1_000)

    return recommender.rank_behind(batch, question.item_ids, question.now_ms, score)
