"""Which ranges of each user's records the learner has learned: the proof that no sample is lost or learned twice."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xxhash

from model.packed_ids import pack_ids, unpack_ids
from storage.changes import SampleRef
from storage.entries import pack_position, unpack_position
from streams.samples import Sample

_COLUMNS = ("position", "records", "gaps", "overlaps", "first")
_NOTHING = (-1, 0, 0, 0, -1)
UNKNOWN_LOG = 0
"""Stands for the log of a user of whom an older version wrote none: epochs alone tell that one from others."""


class LearnedRanges:
    """Per user: the position up to which records were learned, how many, and where the chain of ranges broke.

    The samples of a user form a chain: each begins where the one before ended. A sample that begins later leaves a
    gap (lost), one that begins earlier overlaps (learned twice); both are counted, neither is hidden. What is counted
    begins anew with each log, that is with each id of the topic, behind the sample whose range reaches back into the
    former log: `first` is where that ended, -1 where the chain began in this one.
    """

    def __init__(self) -> None:
        self._users: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._users)

    def add(self, sample: Sample | SampleRef, trigger: int, topic_id: str) -> None:
        """Note a learned sample of this log; `trigger` is the position of its trigger."""
        log = _log_number(topic_id)
        row = self._users.setdefault(sample.user_id, [*_NOTHING, log])
        epoch, _ = unpack_position(trigger)
        if 0 <= sample.since < pack_position(epoch, 0):
            row[:] = [trigger, 0, 0, 0, trigger, log]
            return
        # A store that was made from nothing begins in epoch 0, so positions alone do not tell two logs apart.
        if row[5] not in (log, UNKNOWN_LOG) or 0 <= row[0] < pack_position(epoch, 0):
            row[:5] = [sample.since, 0, int(sample.since >= 0), 0, sample.since]
        row[5] = log
        row[2] += sample.since > row[0]
        row[3] += sample.since < row[0]
        row[0] = trigger
        row[1] += sample.num_records

    def forget(self, user_id: str) -> None:
        """Drop what was noted of a user, whose next sample begins a new chain."""
        self._users.pop(user_id, None)

    def of(self, user_id: str, topic_id: str) -> Mapping[str, int]:
        """Columns `position, records, gaps, overlaps, first` of one user.

        -1 and zeros where nothing of this log was learned.
        """
        row = self._users.get(user_id, [*_NOTHING, UNKNOWN_LOG])
        is_of_log = row[5] in (_log_number(topic_id), UNKNOWN_LOG)
        return dict(zip(_COLUMNS, row[:5] if is_of_log else _NOTHING, strict=True))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the trainer's file."""
        table = np.array(list(self._users.values()), dtype=np.int64).reshape(-1, len(_COLUMNS) + 1)
        arrays = {f"learned.{name}": table[:, place].copy() for place, name in enumerate((*_COLUMNS, "log"))}
        id_bytes, id_ends = pack_ids(list(self._users))
        return arrays | {"learned.user_bytes": id_bytes, "learned.user_ends": id_ends}

    @classmethod
    def restore(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Read back what `state` gave; raises `ValueError` where columns are missing."""
        missing = [name for name in _COLUMNS if f"learned.{name}" not in arrays]
        if missing:
            raise ValueError(f"learned ranges lack {', '.join(missing)}: they were written by an older version")
        ranges = cls()
        columns = [arrays[f"learned.{name}"] for name in _COLUMNS]
        logs = arrays.get("learned.log", np.full_like(columns[0], UNKNOWN_LOG))
        table = np.stack([*columns, logs], axis=1)
        ranges._users = dict(
            zip(unpack_ids(arrays["learned.user_bytes"], arrays["learned.user_ends"]), table.tolist(), strict=True)
        )
        return ranges


def _log_number(topic_id: str) -> int:
    """63 bits that stand for a log in a column of the trainer's file."""
    return xxhash.xxh3_64_intdigest(topic_id.encode()) >> 1
