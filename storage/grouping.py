"""The records of a chunk by user: those of one together, in the order of the log."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from storage.compiled import compiled
from storage.records import Int64s, Records


class Groups:
    """A chunk's records by user, who stand in the order of their first one: `order[bounds[u]:bounds[u + 1]]`."""

    def __init__(self, records: Records) -> None:
        num = len(records)
        self.of_records = np.empty(num, np.int64)
        """User of each record."""
        firsts = np.empty(num, np.int64)
        table = np.full(1 << (2 * num).bit_length(), -1, np.int64)
        num_users = _group(records.text, records.users, table, self.of_records, firsts)
        counts = np.bincount(self.of_records, minlength=num_users)
        self.bounds = np.concatenate(([0], np.cumsum(counts)))
        self.order = np.argsort(self.of_records, kind="stable")
        text = records.text.tobytes()
        self.spans = records.users[firsts[:num_users]]
        """Where in the records' text the id of each user stands who has a record."""
        self.user_ids = [text[start:end].decode() for start, end in self.spans.tolist()]

    def add_idle(self, user_ids: Iterable[str]) -> None:
        """Let users without a record, but for those who have some, stand behind the others."""
        known = set(self.user_ids)
        idle = [user_id for user_id in user_ids if user_id not in known]
        self.user_ids += idle
        self.bounds = np.concatenate((self.bounds, np.full(len(idle), len(self.order))))


@compiled
def _group(text: npt.NDArray[np.uint8], spans: Int64s, table: Int64s, of_records: Int64s, firsts: Int64s) -> int:
    last = len(table) - 1
    num = 0
    for record in range(len(spans)):
        start, end = spans[record]
        # FNV-1a: ids are short, and equality is by their bytes.
        mixed = np.uint64(14695981039346656037)
        for place in range(start, end):
            mixed = (mixed ^ np.uint64(text[place])) * np.uint64(1099511628211)
        slot = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(last))
        while table[slot] >= 0 and not _is_same(text, spans, firsts[table[slot]], record):
            slot = (slot + 1) & last
        if table[slot] < 0:
            table[slot] = num
            firsts[num] = record
            num += 1
        of_records[record] = table[slot]
    return num


@compiled
def _is_same(text: npt.NDArray[np.uint8], spans: Int64s, one: int, other: int) -> bool:
    first, second = spans[one], spans[other]
    return bool(np.array_equal(text[first[0] : first[1]], text[second[0] : second[1]]))
