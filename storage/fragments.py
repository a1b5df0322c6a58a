"""Where entries lie: a fragment for each user and chunk, merged into blocks, pruned of what no read can tell.

Appending writes one small fragment. Once a user has more than `MAX_FRAGMENTS` of them, they become one; once that
has `BLOCK_ENTRIES`, it is a block and left alone. Once the stored entries have doubled since the last pruning (or
reached twice the cap), those that no read can tell from absent ones are dropped. All of it happens in the batch of
the chunk that caused it.
"""

import msgspec
from rocksdict import WriteBatch

from storage.database import Database
from storage.entries import Entry
from storage.keys import MAX_POSITION, fragment_key, fragment_prefix
from storage.sequence import surviving
from storage.user_state import UserState

MAX_FRAGMENTS = 32
"""Unmerged fragments of a user."""
BLOCK_ENTRIES = 256
"""Entries from which on a fragment is a block."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Entry])


class Fragments:
    """The entries of all users of one database; what is appended is written with the caller's batch."""

    def __init__(self, db: Database, cap: int) -> None:
        self._db = db
        self._cap = cap

    def read(self, user_id: str, *, first: int = 0, until: int = MAX_POSITION) -> list[Entry]:
        """A user's stored entries of positions `first` to `until`, in order.

        `first` must be 0 or the position at which a fragment begins.
        """
        entries: list[Entry] = []
        for _, value in self._stored(user_id, first, until):
            entries += _decoder.decode(value)
        while entries and entries[-1].position > until:
            entries.pop()
        return entries

    def append(self, batch: WriteBatch, user_id: str, state: UserState, entries: list[Entry], floor: int) -> None:
        """Add a user's new entries.

        Reads as of positions before `floor` need not stay possible.
        """
        state.num_entries += len(entries)
        state.num_fragments += 1
        if state.num_entries >= 2 * max(self._cap, state.num_survivors):
            self._prune(batch, user_id, state, entries, floor)
        elif state.num_fragments > MAX_FRAGMENTS:
            self._merge(batch, user_id, state, entries)
        else:
            self._put(batch, user_id, entries)

    def _merge(self, batch: WriteBatch, user_id: str, state: UserState, entries: list[Entry]) -> None:
        merged = self._take(batch, user_id, state.tail) + entries
        self._put(batch, user_id, merged)
        if len(merged) < BLOCK_ENTRIES:
            state.tail = merged[0].position
            state.num_fragments = 1
        else:
            state.tail = merged[-1].position + 1
            state.num_fragments = 0

    def _prune(self, batch: WriteBatch, user_id: str, state: UserState, entries: list[Entry], floor: int) -> None:
        stored = self._take(batch, user_id, 0) + entries
        left = surviving(stored, floor, self._cap)
        for block in _blocks(left):
            self._put(batch, user_id, block)
        if len(left) < len(stored):
            state.exact_from = max(state.exact_from, floor)
        state.num_entries = len(left)
        state.num_survivors = len(left)
        state.tail = stored[-1].position + 1
        state.num_fragments = 0

    def _take(self, batch: WriteBatch, user_id: str, first: int) -> list[Entry]:
        entries: list[Entry] = []
        for key, value in self._stored(user_id, first, MAX_POSITION):
            batch.delete(key)
            entries += _decoder.decode(value)
        return entries

    def _put(self, batch: WriteBatch, user_id: str, entries: list[Entry]) -> None:
        key = fragment_key(fragment_prefix(user_id), entries[0].position)
        batch.put(key, _encoder.encode(entries))

    def _stored(self, user_id: str, first: int, until: int) -> list[tuple[bytes, bytes]]:
        prefix = fragment_prefix(user_id)
        return list(self._db.scan(fragment_key(prefix, first), fragment_key(prefix, until + 1)))


def _blocks(entries: list[Entry]) -> list[list[Entry]]:
    # A key is a position, so the entries of one record must not be parted.
    blocks: list[list[Entry]] = []
    for entry in entries:
        if blocks and (len(blocks[-1]) < BLOCK_ENTRIES or blocks[-1][-1].position == entry.position):
            blocks[-1].append(entry)
        else:
            blocks.append([entry])
    return blocks
