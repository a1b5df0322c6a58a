"""What was computed of users lately, kept from question to question within a limit of memory.

Shapes: n tokens of a history, C columns that say what a token is, D width.
"""

from dataclasses import dataclass

import numpy as np

from model.history_cache import HistoryCache
from model.hstu import HSTU
from model.layout import Integers
from model.recently_used import RecentlyUsed
from model.window_batch import WindowBatch


@dataclass(slots=True)
class UserCache:
    """Keys and values of one user's window, and what its tokens were when these were computed.

    A token's keys and values follow from the tokens up to it alone. So those of the tokens that a window begins with
    as before are right, whatever was changed, folded, forgotten or moved out behind them, and the rest is computed.
    """

    history: HistoryCache
    model: object
    """Stands for the weights; of no use with others."""
    tokens_nC: Integers

    @property
    def num_bytes(self) -> int:
        """What it holds."""
        return self.history.num_bytes + self.tokens_nC.nbytes

    def num_known(self, tokens_nC: Integers) -> int:
        """Of a window's tokens, how many from the first on are those held; the last one, which is asked for, is not."""
        return min(_num_equal(self.tokens_nC, tokens_nC), len(tokens_nC) - 1)


class UserCaches:
    """Caches of the users asked about last, of at most `limit_bytes` together; not for several threads at once.

    Counted are all arrays, to the byte, and a round sum for the objects that hold them.
    """

    ENTRY_BYTES = 4_096
    """What is counted for an entry beside its arrays."""

    def __init__(self, limit_bytes: int) -> None:
        self._caches: RecentlyUsed[UserCache] = RecentlyUsed(limit_bytes)
        self.num_hits = 0
        """Questions about a user of whom something was there."""
        self.num_misses = 0

    def __len__(self) -> int:
        return len(self._caches)

    @property
    def num_bytes(self) -> int:
        """What all entries take."""
        return self._caches.num_bytes

    @property
    def num_evicted(self) -> int:
        """Users who had to make room for others."""
        return self._caches.num_evicted

    def take(self, user_id: str, model: object, encoder: HSTU) -> UserCache:
        """Take out what is held of the user under these weights; else an empty cache."""
        cache = self._caches.take(user_id)
        if cache is not None and cache.model is model:
            self.num_hits += 1
            return cache
        self.num_misses += 1
        return UserCache(HistoryCache(encoder), model, np.zeros((0, 0), np.int64))

    def put(self, user_id: str, cache: UserCache) -> None:
        """Hold a cache as the one asked for last; those asked for longest ago go where the limit says so."""
        self._caches.put(user_id, cache, cache.num_bytes + self.ENTRY_BYTES)


def told_tokens(batch: WindowBatch) -> Integers:
    """All that tokens are computed from, [n, C]: equal rows are equal tokens."""
    layout = batch.layout
    unknown, features = (np.zeros(layout.num_tokens, np.int64) for _ in range(2))
    unknown[batch.unknown_S.numpy()] = batch.unknown_keys_S
    features[batch.told_F.numpy()] = 1 + batch.features_F.numpy()
    has_item = batch.has_item_T1[:, 0].numpy().astype(np.int64)
    columns = (batch.rows_T.numpy(), has_item, unknown, batch.actions_T.numpy(), features)
    return np.column_stack([*columns, layout.seconds_T, layout.query_seconds_T])


def _num_equal(before_nC: Integers, now_nC: Integers) -> int:
    """How many rows are equal before the first that is not."""
    count = min(len(before_nC), len(now_nC))
    if count == 0:
        return 0
    differs = np.any(before_nC[:count] != now_nC[:count], axis=1)
    return int(differs.argmax()) if differs.any() else count
