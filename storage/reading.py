"""Reads a user's folded sequence from the newest row backwards, no further than the result can depend on."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from storage.entries import Entries, entries_from, num_rows
from storage.errors import StateError
from storage.fold import Fold, Places, fold_entries
from storage.folded import FoldedSequence
from storage.fragments import BLOCK_HEAD_BYTES, Block, Fragments
from storage.keys import MAX_POSITION
from storage.user_state import NOTHING_REACHED, UserState


class View:
    """A generation of a user's rows, read from the newest one backwards."""

    def __init__(self, values: list[bytes], blocks: Iterator[Block], reach: int, exposures: int) -> None:
        self.is_whole = False
        """Whether all rows are read."""
        self.reach = reach
        """How far in event time those not read may matter."""
        self.exposures = exposures
        """Exposures among those not read."""
        self._values = values
        self._entries: Entries | None = None
        self._num_rows = sum(map(num_rows, values))
        self._oldest: Block | None = None
        self._blocks = blocks

    @classmethod
    def whole(cls, entries: Entries) -> "View":
        """One that has been read to its end."""
        view = cls([entries.to_bytes()], iter(()), NOTHING_REACHED, 0)
        view.is_whole = True
        return view

    @property
    def entries(self) -> Entries:
        """The rows read so far."""
        if self._entries is None:
            self._entries = entries_from(self._values)
        return self._entries

    def num_until(self, position: int) -> int:
        """Rows read so far that are not after a position."""
        return self._num_rows if position == MAX_POSITION else self.entries.first_after(position)

    def add(self, value: bytes) -> None:
        """Take in rows that are newer than all others, as `Entries.to_bytes` gives them."""
        self._values.append(value)
        self._num_rows += num_rows(value)
        self._entries = None

    def holds(self, wanted: int | None, num: int, since: int | None) -> bool:
        """Whether so many rows are enough, and all after `since` are read."""
        if wanted is None or num < wanted:
            return False
        return since is None or (self._oldest is not None and self._oldest.first <= since)

    def extend(self, num_more: int | None, since: int | None) -> None:
        """Read so many rows more, or all, and on to those of `since`."""
        taken: list[Block] = []
        num = 0
        for block in self._blocks:
            taken.append(block)
            num += block.num_rows
            self._oldest = block
            if self.holds(num_more, num, since):
                self.reach, self.exposures = block.reach, block.exposures
                break
        else:
            self.is_whole = True
        self._values = [block.value[BLOCK_HEAD_BYTES:] for block in reversed(taken)] + self._values
        self._num_rows += num
        self._entries = None


class Found(NamedTuple):
    """What a read found: the events of a fold from place `start` on are as in a fold of all rows."""

    fold: Fold
    start: int
    reach: int
    """How far in event time rows that were not read may matter to what comes later."""
    exposures: int
    """Exposures among those."""


class Reading:
    """Reads of one database under the settings that shape sequences."""

    def __init__(self, fragments: Fragments, *, window_ms: int, exposure_rate: float) -> None:
        self._fragments = fragments
        self.window_ms = window_ms
        self._exposure_rate = exposure_rate

    def in_blocks(self, user_id: str, state: UserState) -> Entries:
        """The rows of the present generation that lie in blocks."""
        blocks = [block.value for block in self._fragments.blocks(user_id, state.generation)]
        return entries_from(blocks[::-1], BLOCK_HEAD_BYTES)

    def event_ids(self, user_id: str, state: UserState) -> set[int]:
        """Hashes of the event ids of which a row is kept."""
        parts = (self.in_blocks(user_id, state), entries_from(self._fragments.tail(user_id, state)))
        return {event for entries in parts for event in entries.rows["event"].tolist() if event}

    def fold(self, entries: Entries) -> Fold:
        """The fold of rows under the settings."""
        return fold_entries(entries, window_ms=self.window_ms, exposure_rate=self._exposure_rate)

    def view(self, user_id: str, state: UserState, generation: int) -> View:
        """A generation of a user's rows, of which nothing is read yet but what lies in fragments."""
        blocks = self._fragments.blocks(user_id, generation) if state.tail else iter(())
        if generation != state.generation:
            return View([], blocks, MAX_POSITION, 0)
        return View(self._fragments.tail(user_id, state), blocks, state.reach, state.block_exposures)

    def read_back(self, view: View, *, until: int, last: int | None, since: int | None) -> Found:
        """The newest `last` events of a view as of position `until`, or all; see `UserReader.read` for `since`."""
        # Some rows more than events are wanted: actions become part of exposures.
        wanted = None if last is None else last + last // 4
        while True:
            num = view.num_until(until)
            if not view.is_whole and not view.holds(wanted, num, since):
                view.extend(None if wanted is None else wanted - num, since)
                continue
            entries = view.entries.until(until)
            fold = self.fold(entries)
            new = None if since is None else _new(fold, since)
            start = _start(fold, last, new)
            if view.is_whole:
                return Found(fold, start, NOTHING_REACHED, 0)
            if self._suffices(fold, start, last, new, view):
                return Found(fold, start, view.reach, view.exposures)
            wanted = 2 * max(len(entries), 1)

    def _suffices(self, fold: Fold, start: int, last: int | None, new: Places | None, view: View) -> bool:
        """Whether no row before those of the view can be told from an absent one in the events from `start` on."""
        if last is None or len(fold.heads) < last or start >= len(fold.heads):
            return False
        since_ts = int(fold.ts_ms[fold.heads[start]])
        if new is not None:
            # A new exposure that is left out would be there if a row further back acted on it.
            since_ts = int(fold.ts_ms[new].min(initial=since_ts))
        if since_ts <= view.reach:
            return False
        if not view.exposures:
            return True
        # What an action belongs to is open while a newer exposure could be further back.
        actions = np.flatnonzero((fold.action >= 0) & (fold.ts_ms >= since_ts))
        actions = actions[fold.target[actions] >= 0]
        target = fold.target[actions]
        request = fold.entries.rows["request"]
        settled = (fold.action[target] < 0) & ((request[actions] == 0) | (request[actions] == request[target]))
        newest_open = np.where(settled, fold.ts_ms[target], fold.ts_ms[actions] - self.window_ms)
        return bool((newest_open > view.reach).all())


class UserReader:
    """Reads of one user, who is not written meanwhile: what one of them took, the next one has at hand."""

    def __init__(self, reading: Reading, user_id: str, state: UserState) -> None:
        self._reading = reading
        self._user_id = user_id
        self._state = state
        self._views: dict[int, View] = {}

    def read(self, *, until: int | None = None, last: int | None = None, since: int | None = None) -> FoldedSequence:
        """The user's events in order of time as of position `until` (included), or the newest `last` of them.

        With `since`, also what lies between those and the oldest event that has a row after that position. Raises
        `StateError` for an `until` before what is kept; those of pending samples never are.
        """
        position = MAX_POSITION if until is None else until
        found = self._reading.read_back(self._view(position), until=position, last=last, since=since)
        return found.fold.columns(found.fold.heads[found.start :], since)

    def _view(self, position: int) -> View:
        generation = self._state.generation_at(position)
        if generation is None:
            raise StateError(
                f"the sequence of {self._user_id!r} as of position {position} is no longer kept: "
                f"read it as of {self._state.generation} or later"
            )
        if generation not in self._views:
            self._views[generation] = self._reading.view(self._user_id, self._state, generation)
        return self._views[generation]


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
    target = fold.target[fold.entries.first_after(since) :]
    return target[target >= 0]
