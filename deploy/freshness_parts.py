"""What a record's way into the weights that answer is made up of, part by part, from what a manifest says of it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from storage.manifest import ManifestDraft

PARTS = ("worker", "queue", "learn", "wait", "cut", "publish", "fetch", "apply", "answer")
"""In the order of the way; what each lasts from and to is in deploy/README.md."""


class LearnedRecords(NamedTuple):
    """The records that one version learned first.

    N pairs; what is told of a run of pairs at once is kept once, for R runs.
    """

    kafka_ms: npt.NDArray[np.int64]
    """[N]"""
    counts: npt.NDArray[np.int64]
    """[N] Records of each Kafka time."""
    times_ms: npt.NDArray[np.int64]
    """[R, 5] When samples were written, taken, learned, when the cut began and was done; 0 where nobody noted it."""
    lengths: npt.NDArray[np.int64]
    """[R] Pairs of each run; sums to N."""

    @property
    def num_records(self) -> int:
        """Records of all pairs."""
        return int(self.counts.sum())

    def parts_ms(self, later_ms: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """What each part lasted, [`PARTS`, N], whose sum over the parts is the time from Kafka to the first answer.

        `later_ms`: when the pointer was moved, the files were fetched, the model was applied, and answered. A time
        that nobody noted, or that lies before the one ahead of it as another machine's clock says it, is taken for
        equal to that one; none is later than the answer.
        """
        times_ms = np.repeat(self.times_ms, self.lengths, axis=0)
        later = np.broadcast_to(np.array(later_ms, np.int64), (len(times_ms), len(later_ms)))
        way = np.column_stack([self.kafka_ms, times_ms, later])
        way = np.maximum.accumulate(np.minimum(way, later_ms[-1]), axis=1)
        return np.diff(way, axis=1).T


def learned_records(manifest: ManifestDraft) -> LearnedRecords:
    """What a manifest says of the records that its version learned first.

    Pairs whose runs it does not tell, as no manifest of before did, have no times before the cut.
    """
    pairs = np.array(manifest.learned_kafka_ms, np.int64).reshape(-1, 2)
    runs = np.array(manifest.learned_times, np.int64).reshape(-1, 4)
    # Each is looked at too, for a sum can overflow.
    if (runs[:, 3] > len(pairs)).any() or runs[:, 3].sum() != len(pairs):
        runs = np.array([[0, 0, 0, len(pairs)]], np.int64)
    cut = np.broadcast_to(np.array([manifest.created_ms, manifest.cut_ms], np.int64), (len(runs), 2))
    return LearnedRecords(pairs[:, 0], pairs[:, 1], np.column_stack([runs[:, :3], cut]), runs[:, 3])
