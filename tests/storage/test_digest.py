from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xxhash

from storage.digest import state_digest


def test_a_digest_is_that_of_these_bytes() -> None:
    """A reader in another language must come to the same number."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "b": np.array([[1, 2]], np.int64).T,
        "a": np.array(1.5, np.float32),
        "empty": np.zeros((0, 3), np.bool_),
    }
    told = (
        b"a\0float32\0\0" + bytes.fromhex("0000c03f") + b"b\0int64\x002,1\0" + bytes([1, *[0] * 7, 2, *[0] * 7])
    ) + b"empty\0bool\x000,3\0"
    assert state_digest(arrays) == xxhash.xxh3_128_hexdigest(told)
    assert state_digest({}) == "99aa06d3014798d86001c324468d497f"


@pytest.mark.parametrize(
    "other", [{"x": np.zeros(4, np.int8)}, {"a": np.zeros((2, 2), np.int8)}, {"a": np.zeros(4, np.uint8)}, {}]
)
def test_names_types_and_shapes_count(other: dict[str, np.ndarray]) -> None:
    """The same bytes under another name are another model."""
    assert state_digest(other) != state_digest({"a": np.zeros(4, np.int8)})
