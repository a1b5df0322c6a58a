"""Several questions of one version answered together, each from what is kept of its user.

Shapes: T tokens of all windows, n of one, C columns that say what a token is, E items, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.history_cache import encode
from model.question import BestItems, GivenItems, Question
from model.recommender import Recommender
from model.user_cache import UserCache, UserCaches, told_tokens
from model.windows import Window


@dataclass(slots=True)
class _Asked:
    """A question on its way to its answer."""

    question: Question[Any]
    window: Window
    num_tokens: int
    cache: UserCache
    query_D: Tensor | None = None
    """Unit vector of the last token, once its window is encoded."""


class Answering:
    """Answers as `Recommender` does, but for rounding, and computes only what is new of a user; for one thread.

    1. Each window's tokens are compared with those that its user's cache was made of. Where fewer than half are new,
       the keys and values of these are computed, from the first that differs on.
    2. All other windows are encoded together, in one pass.
    3. Items that are to be ranked are scored against their user's keys and values.
    4. Where best items are asked for, the catalogue is gone through once for all.

    A window that is full moves on with each event, so that nothing of it is as before: it is encoded anew then.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.caches = UserCaches(limit_bytes)
        """A limit of 0 keeps nothing."""

    @torch.inference_mode()
    def answer(self, recommender: Recommender, questions: Sequence[Question[Any]]) -> list[Any]:
        """Answers in the order of the questions; raises what any of them raises."""
        if not questions:
            return []
        # A cache that something fails in is taken out, and never put back.
        asked = [self._asked(recommender, question) for question in questions]
        self._extend(recommender, asked)
        _encode(recommender, [each for each in asked if each.query_D is None])
        for each in asked:
            self.caches.put(each.question.sequence.user_id, each.cache)
        best = iter(_best_items(recommender, asked))
        return [_ranked(recommender, each) if isinstance(each.question, GivenItems) else next(best) for each in asked]

    def _asked(self, recommender: Recommender, question: Question[Any]) -> _Asked:
        cache = self.caches.take(question.sequence.user_id, recommender.identity, recommender.encoder)
        return _Asked(question, *recommender.history(question.sequence, question.now_ms), cache)

    def _extend(self, recommender: Recommender, asked: Sequence[_Asked]) -> None:
        """Step 1."""
        batch, x_TD = recommender.tokens([each.window for each in asked])
        tokens_TC = told_tokens(batch)
        queries_T = torch.from_numpy(batch.layout.query_seconds_T)
        seconds_T = torch.from_numpy(batch.layout.seconds_T)
        for each, start in zip(asked, batch.layout.offsets.tolist(), strict=False):
            end = start + each.num_tokens
            tokens_nC = tokens_TC[start:end].copy()
            known = each.cache.num_known(tokens_nC)
            each.cache.tokens_nC = tokens_nC
            if 2 * known > each.num_tokens:
                new = slice(start + known, end)
                each.query_D = each.cache.history.extend(
                    recommender.encoder, known, x_TD[new], seconds_T[new], queries_T[new]
                )


def _encode(recommender: Recommender, asked: Sequence[_Asked]) -> None:
    """Step 2; windows of one length lie next to each other, as they are worked on together."""
    if not asked:
        return
    asked = sorted(asked, key=lambda each: each.window.length)
    batch, x_TD = recommender.tokens([each.window for each in asked])
    out_TD, keys_values = encode(recommender.encoder, x_TD, batch.layout)
    seconds_T = torch.from_numpy(batch.layout.seconds_T)
    for each, start in zip(asked, batch.layout.offsets.tolist(), strict=False):
        rows = slice(start, start + each.num_tokens)
        each.cache.history.hold([(k_Thd[rows], v_The[rows]) for k_Thd, v_The in keys_values], seconds_T[rows])
        each.query_D = out_TD[rows.stop - 1]


def _ranked(recommender: Recommender, asked: _Asked) -> list[dict[str, float]]:
    """Step 3."""
    question = asked.question
    assert isinstance(question, GivenItems)
    if not question.item_ids:
        return []

    def score(items_ED: Tensor) -> Tensor:
        return asked.cache.history.score(recommender.encoder, items_ED, question.now_ms // 1_000)

    return recommender.rank_behind(asked.window, question.item_ids, question.now_ms, score)


def _best_items(recommender: Recommender, asked: Sequence[_Asked]) -> list[list[tuple[str, float]]]:
    """Step 4."""
    searches = [(each.question, each.query_D) for each in asked if isinstance(each.question, BestItems)]
    if not searches:
        return []
    questions, queries = zip(*searches, strict=True)
    return recommender.best_items(questions, torch.stack(queries))
