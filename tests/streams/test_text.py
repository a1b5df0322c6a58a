"""Strings in files that hold arrays alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.text import pack_strings, unpack_strings


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_strings_come_back(strings: list[str]) -> None:
    """Ids of users would be mixed up after a restart."""
    assert unpack_strings("id", pack_strings("id", strings)) == strings


def test_the_arrays_are_what_the_docstring_says() -> None:
    """Other programs read the files by it."""
    arrays = pack_strings("user", ["é", "", "ab"])
    assert arrays.keys() == {"user_bytes", "user_ends"}
    assert arrays["user_bytes"].tobytes() == b"\xc3\xa9ab"
    assert arrays["user_ends"].tolist() == [2, 2, 4]
    assert arrays["user_bytes"].dtype == np.uint8
    assert arrays["user_ends"].dtype == np.int64
