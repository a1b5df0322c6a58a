"""Compiled functions that read the JSON of plain events; what is plain is told in `streams.parsing`.

An object's fields are noted as spans in `fields`, [10, 2]: (0, 0) for one that is absent, an empty span for a null, and
for `items` a span of the item spans. A place is an index into the text, -1 one that is not to be had.

All but text is read without a look at the end: the last byte is a closing brace, and no token runs over one.
"""

import numpy as np
import numpy.typing as npt

from storage.compiled import compiled
from storage.records import Int64s
from storage.xxh3 import MAX_BYTES

Text = npt.NDArray[np.uint8]

NAMES = ("type", "event_id", "ts_ms", "v", "user_id", "item_id", "action", "value", "request_id", "items")
"""The fields, by number."""
TYPE, EVENT_ID, TS_MS, V, USER_ID, ITEM_ID, ACTION, VALUE, REQUEST_ID, ITEMS = range(len(NAMES))

_QUOTE, _COLON, _COMMA, _OPEN, _CLOSE, _CLOSE_ARRAY, _N = (ord(byte) for byte in '":,{}]n')
_OPEN_ARRAY, _POINT, _MINUS, _PLUS, _ZERO, _NINE, _LOWER_E, _UPPER_E = (ord(byte) for byte in "[.-+09eE")
_U, _L = (ord(byte) for byte in "ul")
_LONGEST = max(map(len, NAMES))
_MOST_DIGITS = 15
"""So many digits are exact as a float64."""
_TOO_MUCH = 10**_MOST_DIGITS
_POWERS = np.array([float(10**exponent) for exponent in range(23)])
"""The powers of ten that are exact as a float64, so that one product or quotient is rounded rightly."""
_MOST_EXPONENT = len(_POWERS) - 1


def _bytes(*ranges: range) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(256, np.bool_)
    for range_ in ranges:
        chosen[list(range_)] = True
    return chosen


def _of_fields(*fields: int) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(len(NAMES), np.bool_)
    chosen[list(fields)] = True
    return chosen


def _fields_by_look() -> npt.NDArray[np.int64]:
    fields = np.full((_LONGEST + 1, 32), -1, np.int64)
    for field, name in enumerate(NAMES):
        assert fields[len(name), ord(name[0]) & 31] < 0
        fields[len(name), ord(name[0]) & 31] = field
    return fields


_PLAIN = _bytes(range(0x20, ord('"')), range(ord('"') + 1, ord("\\")), range(ord("\\") + 1, 0x7F))
_IN_NUMBERS = _bytes(range(ord("0"), ord("9") + 1), *(range(byte, byte + 1) for byte in b"+-.eE"))
_ARE_NUMBERS = _of_fields(TS_MS, V, VALUE)
_MAY_BE_NULL = _of_fields(EVENT_ID, VALUE, REQUEST_ID)
_BY_LOOK = _fields_by_look()
"""The field of a name by its length and the low bits of its first byte."""
_LETTERS = np.array([list(name.encode().ljust(_LONGEST)) for name in NAMES], np.uint8)


@compiled
def scan_object(text: Text, at: int, end: int, fields: Int64s, items: Int64s, first: int) -> bool:
    """Note the fields of the object in `text[at:end]`, its items from `first`; False if it is not a plain one.

    The last byte must be a closing brace, `fields` zeros, and there must be room for an item in four bytes.
    """
    at = _skip_space(text, at)
    if text[at] != _OPEN:
        return False
    while True:
        at = _scan_member(text, _skip_space(text, at + 1), end, fields, items, first)
        if at < 0:
            return False
        at = _skip_space(text, at)
        if text[at] == _CLOSE:
            return at == end - 1
        if text[at] != _COMMA:
            return False


@compiled
def _scan_member(text: Text, at: int, end: int, fields: Int64s, items: Int64s, first: int) -> int:
    """The place behind a name and its value."""
    close = _text_end(text, at, end)
    if close < 0:
        return -1
    field = _field_named(text, at + 1, close)
    if field < 0 or fields[field, 1] != 0:
        return -1
    at = _skip_space(text, close + 1)
    if text[at] != _COLON:
        return -1
    at = _skip_space(text, at + 1)
    byte = text[at]
    if byte == _N:
        return _scan_null(text, at, field, fields)
    if _ARE_NUMBERS[field]:
        return _scan_number(text, at, field, fields)
    if field == ITEMS:
        return _scan_items(text, at, end, fields, items, first)
    close = _id_end(text, at, end)
    fields[field, 0], fields[field, 1] = at + 1, close
    return close + 1 if close >= 0 else -1


@compiled
def _scan_null(text: Text, at: int, field: int, fields: Int64s) -> int:
    if not _MAY_BE_NULL[field] or text[at + 1] != _U or text[at + 2] != _L or text[at + 3] != _L:
        return -1
    fields[field, 0], fields[field, 1] = at, at
    return at + 4


@compiled
def _scan_number(text: Text, at: int, field: int, fields: Int64s) -> int:
    begin = at
    while _IN_NUMBERS[text[at]]:
        at += 1
    fields[field, 0], fields[field, 1] = begin, at
    return at if at > begin else -1


@compiled
def _scan_items(text: Text, at: int, end: int, fields: Int64s, items: Int64s, first: int) -> int:
    if text[at] != _OPEN_ARRAY:
        return -1
    last = first
    while True:
        at = _skip_space(text, at + 1)
        close = _id_end(text, at, end)
        if close < 0:
            return -1
        items[last, 0], items[last, 1] = at + 1, close
        last += 1
        at = _skip_space(text, close + 1)
        if text[at] == _CLOSE_ARRAY:
            fields[ITEMS, 0], fields[ITEMS, 1] = first, last
            return at + 1
        if text[at] != _COMMA:
            return -1


@compiled
def _id_end(text: Text, at: int, end: int) -> int:
    """As `_text_end`, of text that may be an id."""
    close = _text_end(text, at, end)
    return close if 1 <= close - at - 1 <= MAX_BYTES else -1


@compiled
def _text_end(text: Text, at: int, end: int) -> int:
    """The place of the closing quote of the text that opens here."""
    if text[at] != _QUOTE:
        return -1
    at += 1
    while at < end and _PLAIN[text[at]]:
        at += 1
    return at if at < end and text[at] == _QUOTE else -1


@compiled
def _skip_space(text: Text, at: int) -> int:
    while is_space(text[at]):
        at += 1
    return at


@compiled
def is_space(byte: int) -> bool:
    """Whether a byte is white space to JSON."""
    return byte <= 0x20 and (byte == 0x20 or byte == 0x0A or byte == 0x0D or byte == 0x09)


@compiled
def _field_named(text: Text, begin: int, end: int) -> int:
    size = end - begin
    if not 1 <= size <= _LONGEST:
        return -1
    field: int = _BY_LOOK[size, text[begin] & 31]
    if field < 0:
        return -1
    for place in range(size):
        if text[begin + place] != _LETTERS[field, place]:
            return -1
    return field


@compiled
def plain_integer(text: Text, begin: int, end: int) -> int:
    """The number of 1 to 15 digits; -1 if it is not one, or has a zero in front."""
    if not 1 <= end - begin <= _MOST_DIGITS or (text[begin] == _ZERO and end - begin > 1):
        return -1
    at, number = _digits(text, begin, end, 0)
    return number if at == end else -1


@compiled
def plain_number(text: Text, begin: int, end: int) -> float:
    """The number as a float64; NaN if it is not one, or may not be exact here, or is a negative zero."""
    negative = text[begin] == _MINUS
    whole = begin + 1 if negative else begin
    at, number = _digits(text, whole, end, 0)
    if at == whole or (text[whole] == _ZERO and at > whole + 1):
        return np.nan
    exponent = 0
    if at < end and text[at] == _POINT:
        point = at
        at, number = _digits(text, point + 1, end, number)
        exponent = point + 1 - at
        if exponent == 0:
            return np.nan
    if at < end:
        at, power = _exponent(text, at, end)
        exponent += power
    if at != end or number >= _TOO_MUCH or (negative and number == 0):
        return np.nan
    return _scaled(-number if negative else number, exponent)


@compiled
def _scaled(number: int, exponent: int) -> float:
    if exponent < -_MOST_EXPONENT or exponent > _MOST_EXPONENT:
        return np.nan
    power: float = _POWERS[abs(exponent)]
    return number / power if exponent < 0 else number * power


@compiled
def _exponent(text: Text, at: int, end: int) -> tuple[int, int]:
    """The place behind an exponent, and the exponent."""
    if text[at] != _LOWER_E and text[at] != _UPPER_E:
        return -1, 0
    at += 1
    negative = at < end and text[at] == _MINUS
    if negative or (at < end and text[at] == _PLUS):
        at += 1
    last, power = _digits(text, at, end, 0)
    if last == at:
        return -1, 0
    return last, -power if negative else power


@compiled
def _digits(text: Text, at: int, end: int, number: int) -> tuple[int, int]:
    """The place behind the digits, and the number with them at its end; `_TOO_MUCH` if it is not less."""
    while at < end and _ZERO <= text[at] <= _NINE:
        number = min(number * 10 + np.int64(text[at]) - _ZERO, _TOO_MUCH)
        at += 1
    return at, number
