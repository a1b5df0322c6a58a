"""The compiled hash of short text against the xxhash library."""

import random

import numpy as np
import pytest
import xxhash

from storage.xxh3 import MAX_BYTES, xxh3_64


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_library_at_every_length(seed: int) -> None:
    """A hash of its own would find no duplicate and join no request that the other way of decoding has stored."""
    made = random.Random(seed)
    with np.errstate(over="ignore"):
        for size in range(MAX_BYTES + 1):
            for content in (made.randbytes(size), bytes(size), b"\xff" * size):
                # Text before and behind it must not matter.
                text = np.frombuffer(bytearray(b"xyz" + content + b"z"), np.uint8)
                got = int(xxh3_64(text, 3, 3 + size, seed))
                assert got == xxhash.xxh3_64_intdigest(content, seed), (size, content)
