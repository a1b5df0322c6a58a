"""The best of many scores without sorting all of them.

Shapes: I scores.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]


def best_first(scores_I: Floats32, count: int) -> Iterator[int]:
    """Places of scores from the greatest on, equal ones in their order, NaN last.

    The first `count` cost no sort of all.

    >>> list(best_first(np.array([1.0, 3.0, 2.0, 3.0], np.float32), 1))
    [1, 3, 2, 0]
    """
    scores_I = np.nan_to_num(scores_I, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    start, num = 0, min(count, len(scores_I))
    while start < len(scores_I):
        # All that equal the least of them come along, so that where it is cut does not tell.
        least = np.partition(scores_I, len(scores_I) - num)[len(scores_I) - num]
        places = np.flatnonzero(scores_I >= least)
        ordered = places[np.argsort(-scores_I[places], kind="stable")]
        yield from ordered[start:].tolist()
        start, num = len(ordered), min(8 * num, len(scores_I))
