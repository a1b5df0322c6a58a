"""MessagePack by compiled functions against msgspec."""

import struct

import msgspec
import numpy as np
import pytest

from storage.msgpack_bytes import get_little, get_number, number_bytes, put_array_head, put_float, put_number, put_text

NUMBERS = sorted({sign * ((1 << bits) + more) for bits in range(63) for more in (-1, 0, 1) for sign in (-1, 1)})


def test_whole_numbers_are_what_msgspec_writes_and_are_read_back() -> None:
    """A sample's bytes would depend on whether its body was at hand or read."""
    out = np.empty(16, np.uint8)
    for number in [*NUMBERS, 2**63 - 1, -(2**63)]:
        end = put_number(out, 0, number)
        assert out[:end].tobytes() == msgspec.msgpack.encode(number)
        assert number_bytes(int(out[0])) == end - 1
        assert get_number(out, 0, end - 1) == number


def test_what_is_no_number_is_told() -> None:
    """A text that is read as a number is a state of nobody."""
    assert [number_bytes(code) for code in (0x80, 0x90, 0xA0, 0xC0, 0xC3, 0xCA, 0xD4, 0xDF)] == [-1] * 8


@pytest.mark.parametrize("number", [0.0, -0.0, 1.5, -1e300, 5e-324])
def test_floats_are_what_msgspec_writes(number: float) -> None:
    """As above."""
    out = np.empty(9, np.uint8)
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    assert out[: put_float(out, 0, bits)].tobytes() == msgspec.msgpack.encode(number)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536, 100_000])
def test_heads_of_arrays_and_texts_are_what_msgspec_writes(length: int) -> None:
    """As above."""
    out = np.empty(length + 5, np.uint8)
    head = msgspec.msgpack.encode([0] * length)[: -length or None]
    assert out[: put_array_head(out, 0, length)].tobytes() == head
    if length < 65_536:
        text = np.frombuffer(bytearray(b"x" * length), np.uint8)
        assert out[: put_text(out, 0, text, 0, length)].tobytes() == msgspec.msgpack.encode("x" * length)


def test_little_endian_numbers_are_read() -> None:
    """Rows would be counted, and ids told, wrongly."""
    value = np.frombuffer(bytearray(struct.pack("<Iq", 4_000_000_000, -5)), np.uint8)
    assert (get_little(value, 0, 4), get_little(value, 4, 8) % 2**64) == (4_000_000_000, 2**64 - 5)
