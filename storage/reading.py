"""Reads a user's folded sequence from the newest row backwards, no further than the result can depend on."""

from collections.abc import Iterator

import numpy as np

from storage.entries import Entries, entries_from
from storage.fold import Fold, Places, fold_entries
from storage.folded import FoldedSequence
from storage.fragments import BLOCK_HEAD_BYTES, Block, Fragments
from storage.user_state import UserState


class Reading:
    """Reads of one database under the settings that shape sequences."""

    def __init__(self, fragments: Fragments, *, window_ms: int, exposure_rate: float) -> None:
        self._fragments = fragments
        self._window_ms = window_ms
        self._exposure_rate = exposure_rate

    def in_blocks(self, user_id: str, state: UserState) -> Entries:
        """The rows of the present generation that lie in blocks."""
        blocks = [block.value for block in self._fragments.blocks(user_id, state.generation)]
        return entries_from(blocks[::-1], BLOCK_HEAD_BYTES)

    def event_ids(self, user_id: str, state: UserState) -> set[int]:
        """Hashes of the event ids of which a row is kept."""
        parts = (self.in_blocks(user_id, state), entries_from(self._fragments.tail(user_id, state)))
        return {event for entries in parts for event in entries.rows["event"].tolist() if event}

    def read(
        self, user_id: str, state: UserState, generation: int, until: int, last: int | None, since: int | None
    ) -> FoldedSequence:
        """The newest `last` events, and whatever lies between them and the oldest with a row after `since`."""
        current = generation == state.generation
        tail = entries_from(self._fragments.tail(user_id, state, until) if current else [])
        blocks = self._fragments.blocks(user_id, generation, until)
        taken: list[bytes] = []
        num, wanted = len(tail), last
        while True:
            num, oldest = _take(taken, num, blocks, wanted, since)
            entries = Entries.join([entries_from(taken[::-1], BLOCK_HEAD_BYTES), tail]).until(until)
            fold = self.fold(entries)
            new = None if since is None else _new(fold, since)
            start = _start(fold, last, new)
            if oldest is None or self._suffices(fold, start, last, new, oldest):
                return fold.columns(fold.heads[start:], since)
            wanted = 2 * num

    def fold(self, entries: Entries) -> Fold:
        """The fold of rows under the settings."""
        return fold_entries(entries, window_ms=self._window_ms, exposure_rate=self._exposure_rate)

    def _suffices(self, fold: Fold, start: int, last: int | None, new: Places | None, oldest: Block) -> bool:
        """Whether no row before the `oldest` block can be told from an absent one in the events from `start` on."""
        if last is None or len(fold.heads) < last or start >= len(fold.heads):
            return False
        since_ts = int(fold.ts_ms[fold.heads[start]])
        if new is not None:
            # A new exposure that is left out would be there if a row further back acted on it.
            since_ts = int(fold.ts_ms[new].min(initial=since_ts))
        if since_ts <= oldest.reach:
            return False
        if not oldest.exposures:
            return True
        # What an action belongs to is open while a newer exposure could be further back.
        actions = np.flatnonzero((fold.action >= 0) & (fold.ts_ms >= since_ts))
        actions = actions[fold.target[actions] >= 0]
        target = fold.target[actions]
        request = fold.entries.rows["request"]
        settled = (fold.action[target] < 0) & ((request[actions] == 0) | (request[actions] == request[target]))
        newest_open = np.where(settled, fold.ts_ms[target], fold.ts_ms[actions] - self._window_ms)
        return bool((newest_open > oldest.reach).all())


def _take(
    taken: list[bytes], num: int, blocks: Iterator[Block], wanted: int | None, since: int | None
) -> tuple[int, Block | None]:
    """Take blocks, the newest first, until there are enough rows; how many there are, and the oldest block.

    Instead of that None where all are taken.
    """
    for block in blocks:
        taken.append(block.value)
        num += block.num_rows
        if wanted is not None and num >= wanted and (since is None or block.first <= since):
            return num, block
    return num, None


def _start(fold: Fold, last: int | None, new: Places | None) -> int:
    start = 0 if last is None else max(0, len(fold.heads) - last)
    if new is None or start == 0:
        return start
    is_new = np.zeros(len(fold.target), bool)
    is_new[new] = True
    places = is_new[fold.heads[:start]].nonzero()[0]
    return int(places[0]) if len(places) else start


def _new(fold: Fold, since: int) -> Places:
    """Places of the events, left out or not, that have a row after `since`."""
    position = fold.entries.rows["position"]
    # Rows stand in order of positions.
    target = fold.target[int(np.searchsorted(position, since, side="right")) :]
    return target[target >= 0]
