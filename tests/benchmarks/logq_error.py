"""How far estimates of an item's share of a batch are from the truth, before and after a shift of a made stream.

    python -m tests.benchmarks.logq_error

20,000 items of Zipf's law, batches of 512. At step 4,000 half of the items exchange their popularity, and a tenth give
theirs to newborn ones. Printed is the mean |log estimate - log truth| over the distinct items of a batch: of Yi et al.
2019 (RecSys, algorithm 2: moving average of the steps between two batches with the item, alpha .01), of a decayed
count, and of `model.frequency`, which corrects it for the row's age. Yi et al. estimate how likely an item is in a
batch, and are held against that; the counts are held against the item's share. One seed.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from model.frequency import DECAY, Frequency

NUM_ITEMS, NUM_NEWBORN, BATCH = 20_000, 2_000, 512
SHIFT, END = 4_000, 5_000
ALPHA, FIRST_INTERVAL = 0.01, 100.0
COLUMNS = ("steady", "0-200", "200-1000", "newborn 0-200", "newborn 200-1000")

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Intervals:
    """Yi et al.'s estimate; an item that is seen for the first time is taken to come every 100 steps."""

    def __init__(self, num_items: int) -> None:
        self.mean, self.last, self.step = np.full(num_items, FIRST_INTERVAL), np.full(num_items, -1), 0

    def update(self, batch: Integers) -> None:
        """Take a batch."""
        self.step += 1
        rows = np.unique(batch)
        known = rows[self.last[rows] >= 0]
        self.mean[known] += ALPHA * (self.step - self.last[known] - self.mean[known])
        self.last[rows] = self.step

    def shares(self, rows: Integers) -> Floats:
        """Probability that each item is in a batch."""
        chances: Floats = 1 / self.mean[rows]
        return chances


def populations(draws: np.random.Generator) -> tuple[Floats, Floats]:
    """Shares of all items before and after the shift; the newborn ones are the last."""
    before = np.zeros(NUM_ITEMS + NUM_NEWBORN)
    before[:NUM_ITEMS] = 1 / np.arange(1, NUM_ITEMS + 1)
    before /= before.sum()
    after = before.copy()
    moved = draws.choice(NUM_ITEMS, NUM_ITEMS // 2, replace=False)
    after[moved] = after[draws.permutation(moved)]
    gone = draws.choice(NUM_ITEMS, NUM_NEWBORN, replace=False)
    after[NUM_ITEMS:], after[gone] = after[gone], 0
    return before, after


def errors(seed: int = 0) -> dict[str, list[float]]:
    """Mean error of each estimate in each column."""
    draws = np.random.default_rng(seed)
    before, after = populations(draws)
    intervals, frequency = Intervals(len(before)), Frequency()
    every: dict[str, Callable[[Integers], Floats]] = {
        "Yi et al., alpha .01": lambda rows: intervals.shares(rows),
        f"decayed count, {DECAY}": lambda rows: (1 - DECAY) * frequency.counts(rows) / BATCH,
        "the same, corrected for age": frequency.shares,
    }
    sums = {name: np.zeros((2, len(COLUMNS))) for name in every}
    for step in range(END):
        share, num_rows = (before, NUM_ITEMS) if step < SHIFT else (after, len(after))
        batch = np.searchsorted(np.cumsum(share), draws.random(BATCH) * share.sum()).clip(max=len(share) - 1)
        intervals.update(batch)
        frequency.update(batch, num_rows)
        if step < SHIFT - 500:
            continue
        rows = np.unique(batch)
        chance = -np.expm1(BATCH * np.log1p(-share[rows]))
        column = 0 if step < SHIFT else 1 if step < SHIFT + 200 else 2
        for name, estimate in every.items():
            error = np.abs(np.log(estimate(rows)) - np.log(chance if name.startswith("Yi") else share[rows]))
            sums[name][:, column] += error.sum(), len(error)
            newborn = error[rows >= NUM_ITEMS]
            if column:
                sums[name][:, column + 2] += newborn.sum(), len(newborn)
    return {name: (total / count).tolist() for name, (total, count) in sums.items()}


def main() -> None:
    """Simulate and print."""
    print(f"{'':30} " + " ".join(f"{column:>16}" for column in COLUMNS))
    for name, row in errors().items():
        print(f"{name:30} " + " ".join(f"{error:16.3f}" for error in row))


if __name__ == "__main__":
    main()
