"""The past that is learned again: one newest window for each of a bounded, even choice of all users so far."""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import torch

from model.batch import SequenceItems
from model.layout import Integers
from model.packed_ids import pack_ids, unpack_ids
from model.windows import EncodedSequence, newest_entries

_COLUMNS = {"keys": np.int64, "seconds": np.int64, "actions": np.int32, "features": np.int32, "group_starts": np.int32}
"""What is kept of a sequence, and as what in a file."""


class ReplayBuffer:
    """Newest events of up to `num_users` users, drawn from evenly.

    Over capacity it holds the users with the smallest keyed hashes of their ids: an even choice among all users that
    ever came, which needs no memory of those that it left out.
    """

    def __init__(self, num_users: int, num_events: int, seed: int) -> None:
        self.num_users = num_users
        self.num_events = num_events
        self._key = seed.to_bytes(16, "little", signed=False)
        self._generator = torch.Generator().manual_seed(seed)
        self._slots: dict[str, int] = {}
        self._largest: list[tuple[int, str]] = []
        self._sequences: list[EncodedSequence] = []

    def __len__(self) -> int:
        return len(self._slots)

    def put(self, user_id: str, sequence: EncodedSequence) -> None:
        """Keep the newest events of a user, in place of what was kept before."""
        slot = self._slots.get(user_id)
        if slot is None:
            slot = self._claim(user_id)
        if slot is not None:
            entries = newest_entries(sequence, len(sequence.rows), self.num_events)
            newest = sequence.pick(entries)
            self._sequences[slot] = _context(*(getattr(newest, name) for name in _COLUMNS))

    def draw(self, num_events: int, known: Callable[[Integers], SequenceItems]) -> list[EncodedSequence]:
        """Whole sequences of distinct users, each user as likely as any other, until they hold so many entries.

        Their items are as they are `known` now, by their keys, whatever rows these had when they were kept.
        """
        drawn: list[EncodedSequence] = []
        order = torch.randperm(len(self._sequences) if num_events else 0, generator=self._generator)
        for slot in order.tolist():
            if num_events <= 0:
                break
            kept = self._sequences[slot]
            items = known(kept.keys)
            drawn.append(replace(kept, keys=items.keys, rows=items.rows))
            num_events -= len(kept.keys)
        return drawn

    def forget(self, user_id: str) -> None:
        """Drop what is kept of a user."""
        slot = self._slots.pop(user_id, None)
        if slot is None:
            return
        last = self._sequences.pop()
        if slot < len(self._sequences):
            moved = next(user for user, each in self._slots.items() if each == len(self._sequences))
            self._slots[moved], self._sequences[slot] = slot, last
        self._largest = [entry for entry in self._largest if entry[1] != user_id]
        heapq.heapify(self._largest)

    def state(self) -> dict[str, np.ndarray]:
        """Copies for a checkpoint."""
        user_bytes, user_ends = pack_ids(list(self._slots))
        state = {
            "replay.user_bytes": user_bytes,
            "replay.user_ends": user_ends,
            "replay.slots": np.array(list(self._slots.values()), np.int64),
            "replay.lengths": np.array([len(sequence.keys) for sequence in self._sequences], np.int64),
            "replay.generator": self._generator.get_state().numpy().copy(),
        }
        for name, dtype in _COLUMNS.items():
            columns = [getattr(sequence, name) for sequence in self._sequences]
            state[f"replay.{name}"] = np.concatenate([getattr(_NOTHING, name), *columns]).astype(dtype)
        return state

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        users = unpack_ids(arrays["replay.user_bytes"], arrays["replay.user_ends"])
        self._slots = dict(zip(users, arrays["replay.slots"].tolist(), strict=True))
        self._largest = [(-self._hash(user), user) for user in users]
        heapq.heapify(self._largest)
        self._generator.set_state(torch.from_numpy(arrays["replay.generator"].copy()))
        cuts = np.cumsum(arrays["replay.lengths"])[:-1]
        columns = [np.split(arrays[f"replay.{name}"].astype(np.int64), cuts) for name in _COLUMNS]
        self._sequences = [_context(*values) for values in zip(*columns, strict=True)] if users else []

    def _claim(self, user_id: str) -> int | None:
        """Slot for a user that has none; None if the buffer is full of users with smaller hashes."""
        entry = (-self._hash(user_id), user_id)
        if len(self._slots) < self.num_users:
            slot = len(self._sequences)
            heapq.heappush(self._largest, entry)
            self._sequences.append(_NOTHING)
        else:
            _, left_out = heapq.heappushpop(self._largest, entry)
            if left_out == user_id:
                return None
            slot = self._slots.pop(left_out)
        self._slots[user_id] = slot
        return slot

    def _hash(self, user_id: str) -> int:
        data = user_id.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(data, key=self._key, digest_size=8).digest(), "little")


def _context(
    keys: Integers,
    seconds: Integers,
    actions: Integers,
    features: Integers,
    group_starts: Integers,
) -> EncodedSequence:
    nothing = np.zeros_like(keys)
    return EncodedSequence(
        rows=nothing,
        keys=keys,
        seconds=seconds,
        actions=actions,
        features=features,
        group_starts=group_starts,
        new=nothing,
        place=nothing - 1,
    )


_NOTHING = _context(*(np.zeros(shape, np.int64) for shape in (0, 0, 0, (0, 2), 0)))
