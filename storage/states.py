"""The states of a chunk's users as one table of whole numbers, read from and written to what is stored of them.

A row holds the fields of `UserState` in their order but the last, `old`, which few users have: that stands apart.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from storage.compiled import compiled
from storage.msgpack_bytes import MAX_NUMBER_BYTES, Bytes, get_number, number_bytes, put_number
from storage.records import Int64s
from storage.user_state import UserState, decode_user

FIELDS = UserState.__struct_fields__
NUM_NUMBERS = len(FIELDS) - 1
"""Numbers of a user's row."""
(
    SINCE,
    NUM_ACTIONS,
    NUM_EXPOSURES,
    FIRST_TS,
    LAST_TS,
    TIMER_DUE,
    NUM_ROWS,
    NUM_SURVIVORS,
    FLOOR_TS,
    NUM_FRAGMENTS,
    TAIL,
    REACH,
    BLOCK_EXPOSURES,
    GENERATION,
) = range(NUM_NUMBERS)
_HEAD = 0x90 | len(FIELDS)
_NO_OLD = 0x90
_MAX_BYTES = 2 + NUM_NUMBERS * MAX_NUMBER_BYTES
_FRESH = np.array(msgspec.structs.astuple(UserState())[:-1], np.int64)

_encoder = msgspec.msgpack.Encoder()


class States:
    """States of users by their numbers in a chunk."""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        self.rows = np.empty((len(values), NUM_NUMBERS), np.int64)
        """A row for each user."""
        self.old: dict[int, list[int]] = {}
        """Former generations of those users who have some."""
        self.is_new = np.array([value is None for value in values], np.bool_)
        known = [number for number, value in enumerate(values) if value is not None]
        stored = [value for value in values if value is not None]
        self.rows[self.is_new] = _FRESH
        ends = np.cumsum([0, *map(len, stored)])
        is_read = np.zeros(len(stored), np.bool_)
        _read(np.frombuffer(bytearray().join(stored), np.uint8), ends, np.array(known, np.int64), self.rows, is_read)
        for number in np.flatnonzero(~is_read).tolist():
            self.put(known[number], decode_user(stored[number]))

    def __len__(self) -> int:
        return len(self.rows)

    def get(self, user: int) -> UserState:
        """A copy of a user's state."""
        return msgspec.convert([*self.rows[user].tolist(), self.old.get(user, [])], UserState)

    def put(self, user: int, state: UserState) -> None:
        """Let this be a user's state."""
        *numbers, old = msgspec.structs.astuple(state)
        self.rows[user] = numbers
        if old:
            self.old[user] = old
        else:
            self.old.pop(user, None)

    def values(self) -> list[bytes]:
        """What is to be stored of each user, as MessagePack."""
        out = np.empty(len(self) * _MAX_BYTES, np.uint8)
        ends = np.empty(len(self) + 1, np.int64)
        _write(self.rows, out, ends)
        stored = out[: ends[-1]].tobytes()
        bounds = ends.tolist()
        values = [stored[start:end] for start, end in pairwise(bounds)]
        for user, old in self.old.items():
            values[user] = values[user][:-1] + _encoder.encode(old)
        return values


@compiled
def _read(
    text: Bytes, ends: Int64s, users: Int64s, rows: npt.NDArray[np.int64], is_read: npt.NDArray[np.bool_]
) -> None:
    for number in range(len(users)):
        at, end = ends[number], ends[number + 1]
        if at == end or text[at] != _HEAD:
            continue
        at += 1
        field = 0
        while field < NUM_NUMBERS and at < end:
            size = number_bytes(text[at])
            if size < 0 or at + 1 + size > end:
                break
            if text[at] == 0xCF and text[at + 1] >= 128:
                break  # does not fit a signed number
            rows[users[number], field] = get_number(text, at, size)
            at += 1 + size
            field += 1
        is_read[number] = field == NUM_NUMBERS and at + 1 == end and text[at] == _NO_OLD


@compiled
def _write(rows: Int64s, out: Bytes, ends: Int64s) -> None:
    at = 0
    ends[0] = 0
    for user in range(len(rows)):
        out[at] = np.uint8(_HEAD)
        at += 1
        for field in range(NUM_NUMBERS):
            at = put_number(out, at, rows[user, field])
        out[at] = np.uint8(_NO_OLD)
        at += 1
        ends[user + 1] = at
