"""How the users of a stream go through its genres: which ones come in runs, and what is liked within them."""

from collections import Counter, deque
from dataclasses import dataclass, field

from streams.dataset import Dataset

RUN = 3
"""Items of one genre on end that make a run."""
MIN_RUNS = 20
"""A genre is told of only if it had so many runs."""


@dataclass(slots=True)
class GenreRuns:
    """One genre in a stream."""

    runs: int = 0
    """Times that a user had `RUN` items of the genre on end, and then one more item."""
    continued: int = 0
    """Of these, the times that the one more was of the genre, too."""
    liked: Counter[str] = field(default_factory=Counter)
    """How often each item was liked in the middle of a run."""

    @property
    def rate(self) -> float:
        """Share of the runs that went on."""
        return self.continued / self.runs


def genre_runs(dataset: Dataset, action: str) -> dict[str, GenreRuns]:
    """The genres that come in runs often enough; an item is liked if it bears the action."""
    bit = 1 << dataset.action_names.index(action)
    genres = {item_id: frozenset(item.categories) for item_id, item in dataset.items.items()}
    found: dict[str, GenreRuns] = {}
    recent: dict[str, deque[tuple[str, int]]] = {}
    for user, item, mask in zip(dataset.user_ids, dataset.item_ids, dataset.actions.tolist(), strict=True):
        former = recent.setdefault(user, deque(maxlen=RUN))
        if len(former) == RUN:
            middle, middle_mask = former[RUN // 2]
            for genre in frozenset.intersection(*(genres.get(known, frozenset()) for known, _ in former)):
                runs = found.setdefault(genre, GenreRuns())
                runs.runs += 1
                runs.continued += genre in genres.get(item, frozenset())
                runs.liked[middle] += bool(middle_mask & bit)
        former.append((item, mask))
    return {genre: runs for genre, runs in found.items() if runs.runs >= MIN_RUNS}
