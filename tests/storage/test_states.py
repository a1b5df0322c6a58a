"""States of many users at once against one by one."""

import random

import msgspec
import pytest

from storage.states import States
from storage.user_state import UserState, decode_user

NUM = 300
encode_user = msgspec.msgpack.Encoder().encode


def random_state(rng: random.Random) -> UserState:
    bits = [rng.choice([0, 1, 5, 7, 8, 15, 16, 31, 32, 62]) for _ in range(14)]
    numbers = [rng.choice([-1, 1]) * rng.randrange(1 << each) for each in bits]
    return msgspec.convert([*numbers, rng.choice([[], [], [3], [1, 2, 1 << 40]])], UserState)


def test_states_are_read_and_written_as_one_by_one() -> None:
    """A number that is written in another form is another state to a version that reads one by one."""
    rng = random.Random(1)
    made = [random_state(rng) for _ in range(NUM)]
    values = [encode_user(state) for state in made]
    states = States([*values, None])
    assert [states.get(user) for user in range(NUM)] == made
    assert states.get(NUM) == UserState()
    assert states.is_new.tolist() == [False] * NUM + [True]
    assert states.values() == [*values, encode_user(UserState())]


def test_a_state_that_was_put_is_given_and_written() -> None:
    """What a trim did would be lost."""
    rng = random.Random(2)
    states = States([encode_user(random_state(rng)) for _ in range(NUM)])
    for user in range(NUM):
        state = random_state(rng)
        states.put(user, state)
        assert states.get(user) == state
        assert decode_user(states.values()[user]) == state


@pytest.mark.parametrize(
    "value",
    [b"", b"\x9f", b"\x9f\xcd\x01", b"\xc0", encode_user(UserState())[:-3], b"\x9f\xcf" + b"\xff" * 8 + b"\x00" * 14],
)
def test_what_is_no_state_is_refused(value: bytes) -> None:
    """A state that is cut short would go on with the numbers of another user."""
    with pytest.raises(Exception, match=r"(truncated|expected|Expected|out of range|Integer)"):
        States([encode_user(UserState()), value]).get(1)
