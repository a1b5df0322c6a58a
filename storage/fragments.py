"""Where rows lie: a fragment for each user and chunk, merged into blocks, which a trim replaces by new ones.

Appending writes one small fragment. Once a user has more than `MAX_FRAGMENTS` of them they become a block. Blocks
belong to a *generation*, named by the position of the trim that began it; those of former ones stay as long as a
pending sample is to be read as of a position before the trim. Each block says how far the ones before it reach in
time and how many exposures they hold, so that who reads backwards knows when to stop.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from rocksdict import WriteBatch

from storage.database import Database
from storage.entries import Entries, entries_from, num_rows
from storage.keys import (
    BLOCK,
    FRAGMENT,
    MAX_POSITION,
    block_position,
    block_prefix,
    fragment_key,
    fragment_prefix,
    fragment_user,
    user_key,
)
from storage.user_state import NOTHING_REACHED, UserState

MAX_FRAGMENTS = 32
"""Fragments of a user that are not merged."""
BLOCK_ROWS = 256
"""Rows from which on a block is not added to."""
BLOCK_HEAD_BYTES = 12
"""What stands in a block before its rows: how far those before it reach, and how many exposures they hold."""
_OLDEST = NOTHING_REACHED.to_bytes(8, "little", signed=True)
"""How far it is before a generation's oldest block."""


class Block(NamedTuple):
    """Some consecutive rows of a user."""

    key: bytes
    value: bytes
    """Its rows, to be read with `BLOCK_HEAD_BYTES` before them."""

    @property
    def first(self) -> int:
        """Position of its first row."""
        return block_position(self.key)

    @property
    def reach(self) -> int:
        """How far in event time the blocks before it reach."""
        return int.from_bytes(self.value[:8], "little", signed=True)

    @property
    def exposures(self) -> int:
        """Exposures in the blocks before it."""
        return int.from_bytes(self.value[8:BLOCK_HEAD_BYTES], "little")

    @property
    def num_rows(self) -> int:
        """Rows in it."""
        return num_rows(self.value, BLOCK_HEAD_BYTES)


class Fragments:
    """The rows of all users of one database; what is appended is written with the caller's batch."""

    def __init__(self, db: Database, window_ms: int) -> None:
        self._db = db
        self._window_ms = window_ms

    @property
    def most(self) -> int:
        """Fragments of a user that are not merged."""
        return MAX_FRAGMENTS

    def tail(self, user_id: str, state: UserState) -> list[bytes]:
        """Values of a user's fragments."""
        return self._db.values(*self._tail(user_id, state)) if state.num_fragments else []

    def blocks(self, user_id: str, generation: int) -> Iterator[Block]:
        """A generation's blocks, the newest first."""
        prefix = block_prefix(fragment_prefix(user_key(user_id)), generation)
        for key, value in self._db.scan_back(prefix, fragment_key(prefix, MAX_POSITION)):
            yield Block(key, value)
            if value.startswith(_OLDEST):
                return  # What stands before it is another user's.

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """All rows of all users, and some that are no longer read, as `Entries.to_bytes` gives them."""
        for kind, head in ((FRAGMENT, 0), (BLOCK, BLOCK_HEAD_BYTES)):
            prefix, user_id = b"", ""
            for key, value in self._db.scan(kind, bytes([kind[0] + 1])):
                # Those of one user stand together.
                if key[:-8] != prefix:
                    prefix, user_id = key[:-8], fragment_user(key)
                yield user_id, value[head:]

    def append(self, batch: WriteBatch, user_id: str, state: UserState, position: int, value: bytes) -> None:
        """Add a user's new rows, of which the first is at this position, as `Entries.to_bytes` gives them."""
        state.num_fragments += 1
        if state.num_fragments <= MAX_FRAGMENTS:
            batch.put(fragment_key(fragment_prefix(user_key(user_id)), position), value)
        else:
            values = [*self.take_tail(batch, user_id, state), value]
            self.seal(batch, user_id, state, entries_from(values))

    def take_tail(self, batch: WriteBatch, user_id: str, state: UserState) -> list[bytes]:
        """Values of the fragments, which are deleted."""
        values = []
        for key, value in self._db.scan(*self._tail(user_id, state)):
            batch.delete(key)
            values.append(value)
        return values

    def seal(self, batch: WriteBatch, user_id: str, state: UserState, entries: Entries) -> None:
        """Write rows as blocks behind those of the present generation; what comes later lies in fragments."""
        prefix = block_prefix(fragment_prefix(user_key(user_id)), state.generation)
        for block in _parted(entries):
            head = state.reach.to_bytes(8, "little", signed=True) + state.block_exposures.to_bytes(4, "little")
            batch.put(fragment_key(prefix, int(block.rows["position"][0])), head + block.to_bytes())
            state.reach = max(state.reach, self._reach(block))
            state.block_exposures += int((block.rows["action"] < 0).sum())
        state.num_fragments = 0
        state.tail = int(entries.rows["position"][-1]) + 1 if len(entries) else state.tail

    def begin_generation(
        self, batch: WriteBatch, user_id: str, state: UserState, position: int, oldest_pending: int | None
    ) -> None:
        """Let new blocks take the place of all present ones; see `drop_old` for those that stay."""
        state.old = [*state.old, state.generation]
        state.generation = position
        state.reach, state.block_exposures = NOTHING_REACHED, 0
        self.drop_old(batch, user_id, state, oldest_pending)

    def drop_old(self, batch: WriteBatch, user_id: str, state: UserState, oldest_pending: int | None) -> None:
        """Delete the blocks of former generations that no sample as of `oldest_pending` or later is read from."""
        needed = state.generation if oldest_pending is None else state.generation_at(oldest_pending)
        for generation in state.old:
            if needed is not None and generation < needed:
                self._drop(batch, user_id, generation)
        state.old = [generation for generation in state.old if needed is None or generation >= needed]

    def _tail(self, user_id: str, state: UserState) -> tuple[bytes, bytes]:
        """Between which keys the fragments lie."""
        prefix = fragment_prefix(user_key(user_id))
        return fragment_key(prefix, state.tail), fragment_key(prefix, MAX_POSITION)

    def _drop(self, batch: WriteBatch, user_id: str, generation: int) -> None:
        prefix = block_prefix(fragment_prefix(user_key(user_id)), generation)
        for key, _ in self._db.scan_back(prefix, fragment_key(prefix, MAX_POSITION)):
            batch.delete(key)

    def _reach(self, entries: Entries) -> int:
        rows = entries.rows
        naming = (rows["action"] >= 0) & (rows["request"] != 0)
        return int((rows["ts_ms"] + np.where(naming, self._window_ms, 0)).max())


def _parted(entries: Entries) -> Iterator[Entries]:
    # A key is a position, so the rows of one record must not be parted.
    positions = entries.rows["position"]
    start = 0
    while start < len(positions):
        end = min(start + BLOCK_ROWS, len(positions))
        while end < len(positions) and positions[end] == positions[end - 1]:
            end += 1
        yield entries.part(start, end)
        start = end
