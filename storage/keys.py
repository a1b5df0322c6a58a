"""Keys of the sequence store's database: one byte that says what the value is, then what it belongs to.

    b"h"                                     header: format, topic, partition, settings
    b"l"                                     log: topic id, epoch, last applied offset, number of users
    b"u" + user                              a user's counters and features
    b"f" + len(user) + user + position       a fragment of a user's entries, by its first position
    b"o" + position + n                      an item of the outbox

Numbers are big-endian, so that the order of keys is the order of positions: the length takes 2 bytes, a position 8,
n 4. The length keeps the fragments of users apart of whom one's id begins with the other's.
"""

from typing import NamedTuple

HEADER = b"h"
LOG = b"l"
USER = b"u"
FRAGMENT = b"f"
OUTBOX = b"o"

MAX_POSITION = 2**63 - 1


class OutboxKey(NamedTuple):
    """What orders the outbox: the position of a record, and the rank among what that record put there."""

    position: int
    n: int


def user_key(user_id: str) -> bytes:
    """Key of a user's state.

    >>> user_key("ada")
    b'uada'
    """
    return USER + user_id.encode()


def user_of(key: bytes) -> str:
    """The user whose state a key names."""
    return key[len(USER) :].decode()


def fragment_prefix(user_id: str) -> bytes:
    """What the keys of all fragments of a user begin with.

    >>> fragment_prefix("ada")
    b'f\\x00\\x03ada'
    """
    user = user_id.encode()
    return FRAGMENT + len(user).to_bytes(2, "big") + user


def fragment_key(prefix: bytes, position: int) -> bytes:
    """Key of the fragment that begins at a position."""
    return prefix + position.to_bytes(8, "big")


def outbox_key(key: OutboxKey) -> bytes:
    """Key of an item of the outbox.

    >>> outbox_from(outbox_key(OutboxKey(7, 0)))
    OutboxKey(position=7, n=0)
    """
    return OUTBOX + key.position.to_bytes(8, "big") + key.n.to_bytes(4, "big")


def outbox_from(key: bytes) -> OutboxKey:
    """The outbox key that bytes of the database stand for."""
    return OutboxKey(int.from_bytes(key[1:9], "big"), int.from_bytes(key[9:13], "big"))
