"""`headwater bench vocabulary`: ids to rows, beside a Python dict; a table through which many more ids go than fit."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from model.admission import Always
from model.eviction import Capacity
from model.item_keys import item_keys
from model.layout import Integers
from model.slot_map import SlotMap
from model.vocabulary import Vocabulary

Say = Callable[[str], None]
FEW = 64
ROUNDS = 7
BATCH = 10_000
TENTHS = 10
_SKEW = 1.1


def run_vocabulary_bench(num_rows: int, num_ids: int, num_hot: int, hot_share: float, say: Say) -> dict[str, Any]:
    """Speed and memory of the map, then the life of a vocabulary of `num_rows`; raises `ValueError` for the share."""
    if not 0 < hot_share < 1:
        raise ValueError(f"hot_share must be above 0 and below 1, got {hot_share}")
    rng = np.random.default_rng(0)
    keys = rng.integers(np.iinfo(np.int64).min, np.iinfo(np.int64).max, num_rows)
    # Popular ids again and again, and a new one in four.
    repeated = keys[rng.zipf(_SKEW, num_rows) % num_rows]
    asked = {
        "new": keys,
        "known": rng.permutation(keys),
        "stream": np.where(rng.random(num_rows) < 0.25, keys, repeated),
    }
    figures = {"bytes_a_key": SlotMap(num_rows).num_bytes / num_rows + keys.itemsize}
    say(f"{num_rows:,} int64 keys, looked up or inserted; {figures['bytes_a_key']:.1f} bytes each, of map and key")
    for name, millions, ratio in _against_dict(asked):
        say(f"  {name:6} {millions:5.1f} millions a second, {ratio:4.1f} x a Python dict")
        figures |= {f"{name}_millions": millions, f"{name}_by_dict": ratio}
    figures |= _small(keys)
    say(
        f"  {FEW} keys {figures['few_us']:.1f} us; ids as text, to keys and rows, "
        f"{figures['text_millions']:.1f} millions a second"
    )
    return figures | _life(num_rows, num_ids, num_hot, hot_share, say)


def _against_dict(asked: dict[str, Integers]) -> Iterable[tuple[str, float, float]]:
    """Name, millions a second, and the dict's time over ours; known keys are those of `new`."""
    ours: dict[str, list[float]] = {name: [] for name in asked}
    theirs: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(ROUNDS):
        slots, plain = SlotMap(len(asked["new"])), dict[int, int]()
        for name, keys in asked.items():
            if name == "stream":
                slots, plain = SlotMap(len(keys)), {}
            started = time.perf_counter()
            slots.lookup_or_insert(keys)
            between = time.perf_counter()
            np.fromiter((plain.setdefault(key, len(plain)) for key in keys.tolist()), np.int64)
            ours[name].append(between - started)
            theirs[name].append(time.perf_counter() - between)
    for name, keys in asked.items():
        taken = statistics.median(ours[name])
        yield name, len(keys) / taken / 1e6, statistics.median(theirs[name]) / taken


def _small(keys: Integers) -> dict[str, float]:
    """Microseconds for few keys, and how fast text becomes rows."""
    slots, few, taken = SlotMap(len(keys)), keys[:FEW].copy(), []
    for _ in range(1_000):
        started = time.perf_counter()
        slots.lookup_or_insert(few)
        taken.append(time.perf_counter() - started)
    ids = [f"item-{number}" for number in range(len(keys) // 4)]
    started = time.perf_counter()
    slots.lookup_or_insert(item_keys(ids))
    return {
        "few_us": statistics.median(taken) * 1e6,
        "text_millions": len(ids) / (time.perf_counter() - started) / 1e6,
    }


def _life(num_rows: int, num_ids: int, num_hot: int, hot_share: float, say: Say) -> dict[str, Any]:
    """Hot ids again and again, and others, each once, through a vocabulary that they do not fit in."""
    vocabulary, rule = Vocabulary(num_rows, Always()), Capacity(max_items=num_rows)
    rng, seconds, most, lost, num_evicted = np.random.default_rng(1), list[float](), 0, 0, 0
    hot = [f"hot-{number}" for number in range(num_hot)]
    hot_keys = item_keys(hot)
    num_again = round(hot_share * BATCH)
    num_once = BATCH - num_again
    num_batches = num_ids // num_once
    for batch in range(num_batches):
        again = rng.integers(num_hot, size=num_again)
        once = [f"once-{number}" for number in range(batch * num_once, (batch + 1) * num_once)]
        item_ids, numbers = [hot[index] for index in again] + once, batch * BATCH + np.arange(BATCH)
        started = time.perf_counter()
        vocabulary.admit(item_keys(item_ids), item_ids, numbers, numbers)
        if len(vocabulary) >= rule.high * num_rows:
            seen_before = vocabulary.lookup(hot_keys) > 0
            victims = rule.victims(vocabulary.sightings(int(numbers[-1]), int(numbers[-1])))
            vocabulary.take_back(victims)
            num_evicted += len(victims)
            lost += int((seen_before & (vocabulary.lookup(hot_keys) == 0)).sum())
        seconds.append(time.perf_counter() - started)
        most = max(most, len(vocabulary))
        if (batch + 1) % (num_batches // TENTHS) == 0:
            tenth = seconds[-(num_batches // TENTHS) :]
            say(
                f"  {(batch + 1) * BATCH:,} events: {1e3 * sum(tenth) / len(tenth):.1f} ms for {BATCH:,}, "
                f"{len(vocabulary):,} of {num_rows:,} rows, {num_evicted:,} evicted, {lost} of {num_hot:,} hot ids lost"
            )
    tenths = [1e3 * float(np.mean(part)) for part in np.array_split(seconds, TENTHS)]
    say(f"time of a batch, last tenth over second: {tenths[-1] / tenths[1]:.2f}; at most {most:,} rows were taken")
    return {"ms_a_batch_by_tenth": tenths, "most_rows": most, "evicted": num_evicted, "hot_lost": lost}
