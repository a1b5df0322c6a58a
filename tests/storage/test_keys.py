from storage.keys import (
    BLOCK,
    FORMER_LOG,
    FRAGMENT,
    HEADER,
    LOG,
    MAX_POSITION,
    OUTBOX,
    TIMER,
    TIMERS_END,
    UPDATES,
    USER,
    OutboxKey,
    block_position,
    block_prefix,
    former_log_key,
    fragment_key,
    fragment_prefix,
    fragment_user,
    outbox_from,
    outbox_key,
    timer_from,
    timer_key,
    updates_key,
    user_key,
    user_of,
)

POSITIONS = [0, 1, 255, 256, 2**32, 2**48 + 5, MAX_POSITION]
USERS = ["a", "a\0", "ab", "b", "\0", "a" * 256, "é"]


def test_keys_are_these_bytes() -> None:
    """Another layout of keys is another format."""
    assert (HEADER, LOG) == (b"h", b"l")
    assert former_log_key(258) == b"e\0\0\0\0\0\0\x01\x02"
    assert user_key("a\0é") == b"ua\x00\xc3\xa9"
    assert updates_key("a\0é") == b"aa\x00\xc3\xa9"
    prefix = fragment_prefix(user_key("ab"))
    assert fragment_key(prefix, 258) == b"f\x00\x02ab\x00\x00\x00\x00\x00\x00\x01\x02"
    assert fragment_key(block_prefix(prefix, 7), 258) == b"b\x00\x02ab\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\x01\x02"
    assert timer_key(258, "ab") == b"t\x00\x00\x00\x00\x00\x00\x01\x02ab"
    assert outbox_key(OutboxKey(1, 2)) == b"o\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02"


def test_keys_order_as_positions_do() -> None:
    """A scan reads in the order of the log only if its keys do."""
    prefix = fragment_prefix(user_key("ada"))
    fragments = [fragment_key(prefix, position) for position in POSITIONS]
    assert fragments == sorted(fragments)
    blocks = [fragment_key(block_prefix(prefix, begun), position) for begun in POSITIONS for position in POSITIONS]
    assert blocks == sorted(blocks)
    outbox = [outbox_key(OutboxKey(position, n)) for position in POSITIONS for n in (0, 1, 300)]
    assert outbox == sorted(outbox)
    timers = [timer_key(due, user) for due in POSITIONS for user in sorted(USERS, key=str.encode)]
    assert timers == sorted(timers)
    assert timers[-1] < TIMERS_END


def test_fragments_of_one_user_never_stand_between_those_of_another() -> None:
    """A scan of one user would read another's events."""
    keys = [fragment_key(fragment_prefix(user_key(user)), position) for user in USERS for position in (0, 2**62)]
    for user in USERS:
        prefix = fragment_prefix(user_key(user))
        low, high = fragment_key(prefix, 0), fragment_key(prefix, MAX_POSITION)
        assert [key for key in keys if low <= key <= high] == [
            key for key in keys if key.startswith(prefix) and len(key) == len(prefix) + 8
        ]


def test_blocks_of_one_generation_never_stand_between_those_of_another() -> None:
    """Rows of before a trim would come back."""
    begun = [(user, generation) for user in USERS for generation in (0, 9, MAX_POSITION)]
    keys = [fragment_key(block_prefix(fragment_prefix(user_key(user)), each), 5) for user, each in begun]
    for (user, generation), key in zip(begun, keys, strict=True):
        prefix = block_prefix(fragment_prefix(user_key(user)), generation)
        assert [each for each in keys if prefix <= each <= fragment_key(prefix, MAX_POSITION)] == [key]


def test_no_kind_of_key_begins_as_another() -> None:
    """Users are listed by their first byte."""
    kinds = [HEADER, LOG, FORMER_LOG, USER, UPDATES, FRAGMENT, BLOCK, TIMER, OUTBOX]
    assert len(set(kinds)) == len(kinds)
    assert all(len(kind) == 1 for kind in kinds)


def test_keys_tell_what_they_were_made_of() -> None:
    """Users, blocks, timers and the outbox are listed from their keys alone."""
    for user in USERS:
        prefix = fragment_prefix(user_key(user))
        assert user_of(user_key(user)) == user
        assert timer_from(timer_key(2**50 + 3, user)) == (2**50 + 3, user)
        assert fragment_user(fragment_key(prefix, 2**50)) == user
        assert fragment_user(fragment_key(block_prefix(prefix, 3), 2**50)) == user
        assert block_position(fragment_key(block_prefix(prefix, 3), 2**50)) == 2**50
    assert outbox_from(outbox_key(OutboxKey(2**50 + 3, 7))) == OutboxKey(2**50 + 3, 7)
