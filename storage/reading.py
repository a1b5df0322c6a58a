"""Reads a user's folded sequence from the newest row backwards, no further than the result can depend on."""

from collections.abc import Iterator

import numpy as np

from storage.entries import NO_ENTRIES, Entries
from storage.fold import Fold, Places, fold_entries
from storage.folded import FoldedSequence
from storage.fragments import Block, Fragments
from storage.keys import MAX_POSITION
from storage.user_state import UserState


class Reading:
    """Reads of one database under the settings that shape sequences."""

    def __init__(self, fragments: Fragments, *, window_ms: int, exposure_rate: float) -> None:
        self._fragments = fragments
        self._window_ms = window_ms
        self._exposure_rate = exposure_rate

    def all_entries(self, user_id: str, state: UserState) -> tuple[list[Entries], list[Entries]]:
        """All rows of the present generation: those in blocks, and those in fragments."""
        blocks = [block.entries for block in self._fragments.blocks(user_id, state.generation)]
        return blocks[::-1], self._fragments.tail(user_id, state)

    def event_ids(self, user_id: str, state: UserState) -> set[int]:
        """Hashes of the event ids of which a row is kept."""
        blocks, tail = self.all_entries(user_id, state)
        return {event for entries in (*blocks, *tail) for event in entries.rows["event"].tolist() if event}

    def read(
        self, user_id: str, state: UserState, generation: int, until: int, last: int | None, since: int | None
    ) -> FoldedSequence:
        """The newest `last` events, and whatever lies between them and the oldest with a row after `since`."""
        current = generation == state.generation
        parts = self._fragments.tail(user_id, state, until) if current else []
        blocks = self._fragments.blocks(user_id, generation, until)
        wanted = last
        while True:
            oldest = _take(parts, blocks, wanted, since)
            entries = Entries.join(reversed(parts)) if parts else NO_ENTRIES
            if until < MAX_POSITION:
                entries = entries.until(until)
            fold = self.fold(entries)
            start = _start(fold, last, since)
            if oldest is None or self._suffices(fold, start, last, since, oldest):
                return fold.columns(fold.heads[start:], since)
            wanted = 2 * max(len(entries), 1)

    def fold(self, entries: Entries) -> Fold:
        """The fold of rows under the settings."""
        return fold_entries(entries, window_ms=self._window_ms, exposure_rate=self._exposure_rate)

    def _suffices(self, fold: Fold, start: int, last: int | None, since: int | None, oldest: Block) -> bool:
        """Whether no row before the `oldest` block can be told from an absent one in the events from `start` on."""
        if last is None or len(fold.heads) < last or start >= len(fold.heads):
            return False
        since_ts = int(fold.ts_ms[fold.heads[start]])
        if since is not None:
            # A new exposure that is left out would be there if a row further back acted on it.
            since_ts = min(since_ts, int(fold.ts_ms[_new(fold, since)].min(initial=since_ts)))
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


def _take(parts: list[Entries], blocks: Iterator[Block], wanted: int | None, since: int | None) -> Block | None:
    """Add blocks to `parts` (newest first) until they hold enough; the oldest one, or None where all are taken."""
    num = sum(map(len, parts))
    for block in blocks:
        parts.append(block.entries)
        num += len(block.entries)
        enough = wanted is not None and num >= wanted and (since is None or block.first <= since)
        if enough:
            return block
    return None


def _start(fold: Fold, last: int | None, since: int | None) -> int:
    start = 0 if last is None else max(0, len(fold.heads) - last)
    if since is None or start == 0:
        return start
    is_new = np.zeros(len(fold.target), bool)
    is_new[_new(fold, since)] = True
    places = np.flatnonzero(is_new[fold.heads[:start]])
    return int(places[0]) if len(places) else start


def _new(fold: Fold, since: int) -> Places:
    """Places of the events, left out or not, that have a row after `since`."""
    target = fold.target[fold.entries.rows["position"] > since]
    return target[target >= 0]
