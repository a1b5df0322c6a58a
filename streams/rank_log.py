"""The prequential log: the rank of every target that a learner has scored, in a file that goes back when it does."""

from pathlib import Path

import numpy as np

from model.prequential import Targets
from storage.errors import SetupError

ENTRY = np.dtype([("event", "<i8"), ("rank", "<f8")])
"""Number of the event in the order of learning, from 0, and its rank: inf where the item was no candidate, NaN where
its score was not finite. Read with `numpy.fromfile(path, [("event", "<i8"), ("rank", "<f8")])`."""


class RankLog:
    """A file of `ENTRY`, oldest first.

    Opened by a learner that goes on from a version, it is cut back to the events that the version has learned: what
    came after is scored again. The operating system keeps what a killed learner wrote; a machine that fails may lose
    the newest ranks.
    """

    def __init__(self, path: Path, num_events: int) -> None:
        """Raises `SetupError` where the file cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise SetupError(f"cannot write {path}: {error.strerror}; name another file with learner.ranks") from error
        entries = np.fromfile(path, ENTRY, path.stat().st_size // ENTRY.itemsize)
        self._file.truncate(int(np.searchsorted(entries["event"], num_events)) * ENTRY.itemsize)

    def add(self, targets: Targets) -> None:
        """Append the ranks of a step."""
        entries = np.empty(len(targets.numbers), ENTRY)
        entries["event"], entries["rank"] = targets.numbers, targets.ranks
        self._file.write(entries.tobytes())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
