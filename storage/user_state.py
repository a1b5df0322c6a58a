"""What is kept of a user beside the entries: when the next sample is due, where fragments lie, features."""

import msgspec


class UserState(msgspec.Struct, array_like=True):
    """Counters and features of one user."""

    since: int = -1
    """Position of the previous trigger; what came later is in no sample yet."""
    num_actions: int = 0
    """Actions since then."""
    num_exposures: int = 0
    """Exposures since then."""
    num_entries: int = 0
    """Entries that are stored."""
    num_survivors: int = 0
    """Entries that the last pruning left."""
    num_fragments: int = 0
    """Fragments that are not yet merged into a block."""
    tail: int = 0
    """Position from which on fragments are not yet merged into a block."""
    exact_from: int = -1
    """Reads as of earlier positions are no longer possible."""
    features: dict[str, str | int | float | bool] = {}

    @property
    def num_unlearned(self) -> int:
        """Entries that are in no sample yet."""
        return self.num_actions + self.num_exposures

    def trigger(self, position: int) -> None:
        """A sample became due at this position: what follows is for the next one."""
        self.since = position
        self.num_actions = 0
        self.num_exposures = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(UserState)


def encode_user(state: UserState) -> bytes:
    """The state as stored."""
    return _encoder.encode(state)


def decode_user(value: bytes) -> UserState:
    """The state that was stored."""
    return _decoder.decode(value)
