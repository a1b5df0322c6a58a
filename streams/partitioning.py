"""Which partition a user's records are in."""

from collections.abc import Sequence

import numpy as np
from kafka.partitioner import murmur2  # type: ignore[import-untyped]  # kafka-python ships no types

_SEED = np.uint32(0x9747B28C)
_FACTOR = np.uint32(0x5BD1E995)


def partition_of(user_id: str, num_partitions: int) -> int:
    """The partition that Kafka's clients choose for a user's records.

    >>> partition_of("ada", 4)
    1
    """
    hashed: int = murmur2(user_id.encode())
    return (hashed & 0x7FFFFFFF) % num_partitions


def partitions_of(keys: Sequence[bytes], num_partitions: int) -> list[int]:
    """The partitions that Kafka's clients choose for keys, many at a time; keys longer than most make all cost more.

    >>> partitions_of([b"ada", b""], 4)
    [1, 1]
    """
    if not keys:
        return []
    sizes = np.fromiter(map(len, keys), np.uint32, len(keys))
    # One word more than any key has whole ones, so that each has its last, unfinished word.
    width = 4 * (int(sizes.max()) // 4 + 1)
    padded = b"".join([key.ljust(width, b"\0") for key in keys])
    words = np.frombuffer(padded, "<u4").reshape(len(keys), width // 4)
    hashed = _SEED ^ sizes
    num_whole = sizes // 4
    for place in range(width // 4 - 1):
        mixed = words[:, place] * _FACTOR
        mixed = (mixed ^ (mixed >> np.uint32(24))) * _FACTOR
        hashed = np.where(place < num_whole, (hashed * _FACTOR) ^ mixed, hashed)
    rest = words[np.arange(len(keys)), num_whole]
    hashed = np.where(sizes % 4 > 0, (hashed ^ rest) * _FACTOR, hashed)
    hashed = (hashed ^ (hashed >> np.uint32(13))) * _FACTOR
    hashed ^= hashed >> np.uint32(15)
    partitions: list[int] = ((hashed & np.uint32(0x7FFFFFFF)) % np.uint32(num_partitions)).tolist()
    return partitions
