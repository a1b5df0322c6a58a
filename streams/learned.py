"""Which ranges of each user's records the learner has learned: the proof that no sample is lost or learned twice."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from model.item_table import pack_ids, unpack_ids
from storage.changes import SampleRef
from storage.entries import pack_position, unpack_position
from streams.samples import Sample

_COLUMNS = ("position", "records", "gaps", "overlaps", "first")
_NOTHING = (-1, 0, 0, 0, -1)


class LearnedRanges:
    """Per user: the position up to which records were learned, how many, and where the chain of ranges broke.

    The samples of a user form a chain: each begins where the one before ended. A sample that begins later leaves a
    gap (lost), one that begins earlier overlaps (learned twice); both are counted, neither is hidden. What is counted
    begins anew with each epoch of the log, behind the sample whose range reaches back into the former one: `first` is
    where that ended, -1 where the chain began in this epoch.
    """

    def __init__(self) -> None:
        self._users: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._users)

    def add(self, sample: Sample | SampleRef, trigger: int) -> None:
        """Note a learned sample; `trigger` is the position of its trigger."""
        row = self._users.setdefault(sample.user_id, list(_NOTHING))
        epoch, _ = unpack_position(trigger)
        if 0 <= sample.since < pack_position(epoch, 0):
            row[:] = [trigger, 0, 0, 0, trigger]
            return
        if 0 <= row[0] < pack_position(epoch, 0):
            row[:] = [sample.since, 0, int(sample.since >= 0), 0, sample.since]
        row[2] += sample.since > row[0]
        row[3] += sample.since < row[0]
        row[0] = trigger
        row[1] += sample.num_records

    def of(self, user_id: str) -> Mapping[str, int]:
        """Columns `position, records, gaps, overlaps, first` of one user; -1 and zeros where nothing was learned."""
        return dict(zip(_COLUMNS, self._users.get(user_id, _NOTHING), strict=True))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the trainer's file."""
        table = np.array(list(self._users.values()), dtype=np.int64).reshape(-1, len(_COLUMNS))
        arrays = {f"learned.{name}": table[:, place].copy() for place, name in enumerate(_COLUMNS)}
        id_bytes, id_ends = pack_ids(list(self._users))
        return arrays | {"learned.user_bytes": id_bytes, "learned.user_ends": id_ends}

    @classmethod
    def restore(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Read back what `state` gave; raises `ValueError` where columns are missing."""
        missing = [name for name in _COLUMNS if f"learned.{name}" not in arrays]
        if missing:
            raise ValueError(f"learned ranges lack {', '.join(missing)}: they were written by an older version")
        ranges = cls()
        table = np.stack([arrays[f"learned.{name}"] for name in _COLUMNS], axis=1)
        ranges._users = dict(
            zip(unpack_ids(arrays["learned.user_bytes"], arrays["learned.user_ends"]), table.tolist(), strict=True)
        )
        return ranges
