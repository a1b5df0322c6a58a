"""MessagePack of whole numbers, floats, texts and array heads, written into and read from an array of bytes.

It writes what msgspec writes: each number in its shortest form.
"""

import numpy as np
import numpy.typing as npt

from storage.compiled import compiled

MAX_NUMBER_BYTES = 9
"""Bytes that a number takes at most."""

Bytes = npt.NDArray[np.uint8]


@compiled
def put_number(out: Bytes, at: int, number: int) -> int:
    """Write a whole number of 64 bits, signed; returns where it ends."""
    if 0 <= number < 128 or -32 <= number < 0:
        out[at] = np.uint8(number & 255)
        return at + 1
    if number >= 0:
        code, size = 0xCC, 1
        while size < 8 and number >> (8 * size):
            size *= 2
            code += 1
    else:
        code, size = 0xD0, 1
        while size < 8 and number < -(1 << (8 * size - 1)):
            size *= 2
            code += 1
    out[at] = np.uint8(code)
    return put_big(out, at + 1, number, size)


@compiled
def put_float(out: Bytes, at: int, bits: int) -> int:
    """Write a float of 64 bits, which is given as a whole number; returns where it ends."""
    out[at] = np.uint8(0xCB)
    return put_big(out, at + 1, bits, 8)


@compiled
def put_big(out: Bytes, at: int, number: int, size: int) -> int:
    """Write the low bytes of a number, the highest first; returns where they end."""
    for place in range(size):
        out[at + place] = np.uint8((number >> (8 * (size - 1 - place))) & 255)
    return at + size


@compiled
def put_array_head(out: Bytes, at: int, length: int) -> int:
    """Write what begins an array; returns where it ends."""
    if length < 16:
        out[at] = np.uint8(0x90 | length)
        return at + 1
    is_short = length < 65_536
    out[at] = np.uint8(0xDC if is_short else 0xDD)
    return put_big(out, at + 1, length, 2 if is_short else 4)


@compiled
def put_text(out: Bytes, at: int, text: Bytes, start: int, end: int) -> int:
    """Write a text of less than 65,536 bytes of UTF-8; returns where it ends."""
    length = end - start
    if length < 32:
        out[at] = np.uint8(0xA0 | length)
        at += 1
    elif length < 256:
        out[at] = np.uint8(0xD9)
        at = put_big(out, at + 1, length, 1)
    else:
        out[at] = np.uint8(0xDA)
        at = put_big(out, at + 1, length, 2)
    for place in range(start, end):
        out[at] = text[place]
        at += 1
    return at


@compiled
def number_bytes(code: int) -> int:
    """Bytes that follow the first byte of a number; -1 where that begins something else."""
    if code < 0x80 or code >= 0xE0:
        return 0
    if 0xCC <= code <= 0xCF:
        return 1 << (code - 0xCC)
    if 0xD0 <= code <= 0xD3:
        return 1 << (code - 0xD0)
    return -1


@compiled
def get_number(value: Bytes, at: int, size: int) -> int:
    """Read a number whose first byte is at `at`, with `size` bytes behind it."""
    code = int(value[at])
    if size == 0:
        return code if code < 0x80 else code - 256
    number = 0
    if code >= 0xD0 and value[at + 1] >= 128:
        number = -1
    for place in range(size):
        number = (number << 8) | int(value[at + 1 + place])
    return number


@compiled
def get_little(value: Bytes, at: int, size: int) -> int:
    """Read the whole number that so many bytes give, the lowest first; one of 8 bytes is signed."""
    number = 0
    for place in range(size):
        number |= int(value[at + place]) << (8 * place)
    return number
