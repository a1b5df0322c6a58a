"""Keys of the sequence store's database: one byte that says what the value is, then what it belongs to.

    b"h"                                              header: format, topic, partition, settings
    b"l"                                              log: topic id, epoch, last applied offset, watermark, counts
    b"e" + epoch                                      id of the topic in a former epoch
    b"g"                                              position of the newest record that had a user forgotten
    b"u" + user                                       a user's counters
    b"a" + user                                       a user's features over time
    b"f" + len(user) + user + position                a fragment of a user's rows, by its first position
    b"b" + len(user) + user + generation + position   a block of them
    b"t" + due + user                                 a user's timer
    b"o" + position + n                               an item of the outbox

Numbers are big-endian, so that the order of keys is the order of positions: the length takes 2 bytes, n 4, all
others 8. The length keeps the rows of users apart of whom one's id begins with the other's.
"""

from typing import NamedTuple

HEADER = b"h"
LOG = b"l"
FORMER_LOG = b"e"
FORGOTTEN = b"g"
USER = b"u"
UPDATES = b"a"
FRAGMENT = b"f"
BLOCK = b"b"
TIMER = b"t"
OUTBOX = b"o"

TIMERS_END = b"u"
"""Above all timers' keys."""

MAX_POSITION = 2**63 - 1


class OutboxKey(NamedTuple):
    """What orders the outbox: the position of a record, and the rank among what that record put there."""

    position: int
    n: int


def former_log_key(epoch: int) -> bytes:
    """Key of the topic's id in a former epoch.

    >>> former_log_key(1)
    b'e\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01'
    """
    return FORMER_LOG + epoch.to_bytes(8, "big")


def user_key(user_id: str) -> bytes:
    """Key of a user's state.

    >>> user_key("ada")
    b'uada'
    """
    return USER + user_id.encode()


def user_of(key: bytes) -> str:
    """The user whose state a key names."""
    return key[len(USER) :].decode()


def updates_key(user_id: str) -> bytes:
    """Key of a user's features over time."""
    return UPDATES + user_id.encode()


def fragment_prefix(key: bytes) -> bytes:
    """What the keys of all fragments of a user begin with, who is given by `user_key`.

    >>> fragment_prefix(user_key("ada"))
    b'f\\x00\\x03ada'
    """
    return FRAGMENT + (len(key) - len(USER)).to_bytes(2, "big") + key[len(USER) :]


def fragment_key(prefix: bytes, position: int) -> bytes:
    """Key of the fragment that begins at a position."""
    return prefix + position.to_bytes(8, "big")


def block_prefix(prefix: bytes, generation: int) -> bytes:
    """What the keys of a generation's blocks begin with; `prefix` is that of the user's fragments."""
    return BLOCK + prefix[1:] + generation.to_bytes(8, "big")


def block_position(key: bytes) -> int:
    """First position of the block that a key names."""
    return int.from_bytes(key[-8:], "big")


def row_ranges(key: bytes) -> list[tuple[bytes, bytes]]:
    """Between which keys all fragments and all blocks of a user lie, who is given by `user_key`.

    >>> row_ranges(user_key("ada"))
    [(b'f\\x00\\x03ada', b'f\\x00\\x03ada\\xff'), (b'b\\x00\\x03ada', b'b\\x00\\x03ada\\xff')]
    """
    prefix = fragment_prefix(key)
    # What follows is a number of 63 bits, whose first byte is below.
    return [(kind + prefix[1:], kind + prefix[1:] + b"\xff") for kind in (FRAGMENT, BLOCK)]


def fragment_user(key: bytes) -> str:
    """The user whose fragment or block a key names."""
    return key[3 : 3 + int.from_bytes(key[1:3], "big")].decode()


def timer_key(due_ms: int, user_id: str) -> bytes:
    """Key of a user's timer.

    >>> timer_from(timer_key(7, "ada"))
    (7, 'ada')
    """
    return TIMER + due_ms.to_bytes(8, "big") + user_id.encode()


def timer_from(key: bytes) -> tuple[int, str]:
    """When a timer is due, and whose it is."""
    return int.from_bytes(key[1:9], "big"), key[9:].decode()


def outbox_key(key: OutboxKey) -> bytes:
    """Key of an item of the outbox.

    >>> outbox_from(outbox_key(OutboxKey(7, 0)))
    OutboxKey(position=7, n=0)
    """
    return OUTBOX + key.position.to_bytes(8, "big") + key.n.to_bytes(4, "big")


def outbox_from(key: bytes) -> OutboxKey:
    """The outbox key that bytes of the database stand for."""
    return OutboxKey(int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:13], "big"))
