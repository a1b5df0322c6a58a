from storage.keys import OutboxKey, fragment_key, fragment_prefix, outbox_from, outbox_key, user_key, user_of


def test_keys_are_these_bytes() -> None:
    """Another layout of keys is another format."""
    assert user_key("a\0é") == b"ua\x00\xc3\xa9"
    assert fragment_key(fragment_prefix("ab"), 258) == b"f\x00\x02ab\x00\x00\x00\x00\x00\x00\x01\x02"
    assert outbox_key(OutboxKey(1, 2)) == b"o\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02"


def test_keys_order_as_positions_do() -> None:
    """A scan reads in the order of the log only if its keys do."""
    positions = [0, 1, 255, 256, 2**32, 2**48 + 5, 2**63 - 1]
    prefix = fragment_prefix("ada")
    fragments = [fragment_key(prefix, position) for position in positions]
    assert fragments == sorted(fragments)
    outbox = [outbox_key(OutboxKey(position, n)) for position in positions for n in (0, 1, 300)]
    assert outbox == sorted(outbox)


def test_fragments_of_one_user_never_stand_between_those_of_another() -> None:
    """A scan of one user would read another's events."""
    users = ["a", "a\0", "ab", "b", "\0", "a" * 256]
    keys = [fragment_key(fragment_prefix(user), position) for user in users for position in (0, 2**62)]
    for user in users:
        prefix = fragment_prefix(user)
        low, high = fragment_key(prefix, 0), fragment_key(prefix, 2**63 - 1)
        assert [key for key in keys if low <= key <= high] == [
            key for key in keys if key.startswith(prefix) and len(key) == len(prefix) + 8
        ]


def test_keys_tell_what_they_were_made_of() -> None:
    """Users and the outbox are listed from their keys alone."""
    assert user_of(user_key("a\0/é")) == "a\0/é"
    assert outbox_from(outbox_key(OutboxKey(2**50 + 3, 7))) == OutboxKey(2**50 + 3, 7)
