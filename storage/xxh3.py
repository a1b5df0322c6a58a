"""The 64-bit XXH3 hash of short text, for compiled code, which cannot call the xxhash library.

After the specification of XXH3 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md), with its default secret. All numbers
are `uint64`: numba makes a float64 of one that meets an int64.
"""

import numpy as np
import numpy.typing as npt

from storage.compiled import compiled

MAX_BYTES = 240
"""The longest text that `xxh3_64` takes; XXH3 hashes longer ones in another way."""

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_WORDS = np.array(
    [int.from_bytes(_SECRET[at : at + 8], "little") for at in range(len(_SECRET) - 7)],
    np.uint64,
)
"""The 64-bit word of the secret at each of its bytes."""

_U = np.uint64
_PRIME64_1 = _U(0x9E3779B185EBCA87)
_PRIME64_2 = _U(0xC2B2AE3D27D4EB4F)
_PRIME64_3 = _U(0x165667B19E3779F9)
_PRIME_MX1 = _U(0x165667919E3779F9)
_PRIME_MX2 = _U(0x9FB21C651E98DF25)
_LOW = _U(0xFFFFFFFF)
_SWAP_1 = _U(0x00FF00FF00FF00FF)
_SWAP_2 = _U(0x0000FFFF0000FFFF)
_FLIP_0 = _WORDS[56] ^ _WORDS[64]
_FLIP_1_TO_3 = (_WORDS[0] & _LOW) ^ (_WORDS[4] & _LOW)
_FLIP_4_TO_8 = _WORDS[8] ^ _WORDS[16]
_FLIP_9_TO_16 = _WORDS[24] ^ _WORDS[32]
_FLIP_9_TO_16_HIGH = _WORDS[40] ^ _WORDS[48]
_0, _1, _2, _3, _4, _8 = (_U(number) for number in (0, 1, 2, 3, 4, 8))
_16, _24, _28, _29, _32, _33, _35, _37, _40, _48, _49, _56, _64, _96, _119, _128 = (
    _U(number) for number in (16, 24, 28, 29, 32, 33, 35, 37, 40, 48, 49, 56, 64, 96, 119, 128)
)


@compiled
def xxh3_64(text: npt.NDArray[np.uint8], start: int, end: int, seed: int) -> np.uint64:
    """The hash of `text[start:end]`, at most `MAX_BYTES`, as `xxhash.xxh3_64_intdigest` gives it with a seed of 0 or 1.

    With `NUMBA_DISABLE_JIT=1` its sums warn of overflow, which is what they are meant to do.
    """
    at, size, salt = _U(start), _U(end - start), _U(seed)
    if size > _128:
        return _over_128(text, at, size, salt)
    if size > _16:
        return _17_to_128(text, at, size, salt)
    if size > _8:
        return _9_to_16(text, at, size, salt)
    if size >= _4:
        return _4_to_8(text, at, size, salt)
    if size > _0:
        return _1_to_3(text, at, size, salt)
    return _avalanche_64(salt ^ _FLIP_0)


@compiled
def _1_to_3(text: npt.NDArray[np.uint8], at: np.uint64, size: np.uint64, seed: np.uint64) -> np.uint64:
    middle, last = text[at + (size >> _1)], text[at + size - _1]
    combined = (_U(text[at]) << _16) | (_U(middle) << _24) | _U(last) | (size << _8)
    return _avalanche_64(combined ^ (_FLIP_1_TO_3 + seed))


@compiled
def _4_to_8(text: npt.NDArray[np.uint8], at: np.uint64, size: np.uint64, seed: np.uint64) -> np.uint64:
    # The low half of the seed, its bytes swapped, goes into the high half: a seed under 256 has one byte.
    seed = seed ^ (seed << _56)
    mixed: np.uint64 = (_word_32(text, at + size - _4) + (_word_32(text, at) << _32)) ^ (_FLIP_4_TO_8 - seed)
    mixed = mixed ^ ((mixed << _49) | (mixed >> (_64 - _49))) ^ ((mixed << _24) | (mixed >> _40))
    mixed = mixed * _PRIME_MX2
    mixed = (mixed ^ ((mixed >> _35) + size)) * _PRIME_MX2
    return mixed ^ (mixed >> _28)


@compiled
def _9_to_16(text: npt.NDArray[np.uint8], at: np.uint64, size: np.uint64, seed: np.uint64) -> np.uint64:
    low = _word(text, at) ^ (_FLIP_9_TO_16 + seed)
    high = _word(text, at + size - _8) ^ (_FLIP_9_TO_16_HIGH - seed)
    return _avalanche(size + _swapped(low) + high + _folded(low, high))


@compiled
def _17_to_128(text: npt.NDArray[np.uint8], at: np.uint64, size: np.uint64, seed: np.uint64) -> np.uint64:
    sum_ = size * _PRIME64_1
    inwards, secret = _0, _0
    while True:
        sum_ += _mix(text, at + inwards, secret, seed)
        sum_ += _mix(text, at + size - _16 - inwards, secret + _16, seed)
        inwards += _16
        secret += _32
        if size <= secret:
            return _avalanche(sum_)


@compiled
def _over_128(text: npt.NDArray[np.uint8], at: np.uint64, size: np.uint64, seed: np.uint64) -> np.uint64:
    sum_ = size * _PRIME64_1
    place = _0
    while place < _128:
        sum_ += _mix(text, at + place, place, seed)
        place += _16
    sum_ = _avalanche(sum_) + _mix(text, at + size - _16, _119, seed)
    while place + _16 <= size:
        sum_ += _mix(text, at + place, place - _128 + _3, seed)
        place += _16
    return _avalanche(sum_)


@compiled
def _mix(text: npt.NDArray[np.uint8], at: np.uint64, secret: np.uint64, seed: np.uint64) -> np.uint64:
    return _folded(_word(text, at) ^ (_WORDS[secret] + seed), _word(text, at + _8) ^ (_WORDS[secret + _8] - seed))


@compiled
def _folded(left: np.uint64, right: np.uint64) -> np.uint64:
    """The halves of the 128-bit product, one over the other."""
    low_low = (left & _LOW) * (right & _LOW)
    high_low = (left >> _32) * (right & _LOW)
    low_high = (left & _LOW) * (right >> _32)
    cross = (low_low >> _32) + (high_low & _LOW) + low_high
    upper = (left >> _32) * (right >> _32) + (high_low >> _32) + (cross >> _32)
    return upper ^ ((cross << _32) | (low_low & _LOW))


@compiled
def _avalanche(mixed: np.uint64) -> np.uint64:
    mixed = (mixed ^ (mixed >> _37)) * _PRIME_MX1
    return mixed ^ (mixed >> _32)


@compiled
def _avalanche_64(mixed: np.uint64) -> np.uint64:
    mixed = (mixed ^ (mixed >> _33)) * _PRIME64_2
    mixed = (mixed ^ (mixed >> _29)) * _PRIME64_3
    return mixed ^ (mixed >> _32)


@compiled
def _swapped(word: np.uint64) -> np.uint64:
    """The word, its bytes in reverse."""
    word = ((word & _SWAP_1) << _8) | ((word >> _8) & _SWAP_1)
    word = ((word & _SWAP_2) << _16) | ((word >> _16) & _SWAP_2)
    return (word << _32) | (word >> _32)


@compiled
def _word(text: npt.NDArray[np.uint8], at: np.uint64) -> np.uint64:
    return _word_32(text, at) | (_word_32(text, at + _4) << _32)


@compiled
def _word_32(text: npt.NDArray[np.uint8], at: np.uint64) -> np.uint64:
    low = _U(text[at]) | (_U(text[at + _1]) << _8)
    return low | (_U(text[at + _2]) << _16) | (_U(text[at + _3]) << _24)
