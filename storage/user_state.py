"""What is kept of a user beside the rows: what is pending, when it is due, where the rows lie."""

import msgspec

NOTHING_REACHED = -(2**62)
"""An event time before all others."""


class UserState(msgspec.Struct, array_like=True, gc=False):
    """Counters of one user."""

    since: int = -1
    """Position of the previous trigger; what came later is pending."""
    num_actions: int = 0
    """Actions that are pending."""
    num_exposures: int = 0
    """Exposures that are pending."""
    first_ts: int = 0
    """Event time of the first pending record."""
    last_ts: int = NOTHING_REACHED
    """Newest event time."""
    timer_due: int = 0
    """When the user's timer is due, event time in milliseconds; 0 without one."""
    num_rows: int = 0
    """Rows that are kept."""
    num_survivors: int = 0
    """Rows that the last trim left."""
    floor_ts: int = NOTHING_REACHED
    """Event time before which a record comes too late."""
    num_fragments: int = 0
    """Fragments that are not yet merged into a block."""
    tail: int = 0
    """Position from which on rows lie in fragments, before which in blocks."""
    reach: int = NOTHING_REACHED
    """Newest event time that rows in blocks have, or that an exposure has which they may act on by request."""
    block_exposures: int = 0
    """Exposures in blocks."""
    generation: int = 0
    """Position of the last trim: blocks written since belong to it."""
    old: list[int] = []
    """Former generations of which blocks are still there for pending samples, ascending."""

    def generation_at(self, position: int) -> int | None:
        """The generation to read as of a position; None where it is no longer there."""
        return next((each for each in (self.generation, *reversed(self.old)) if each <= max(position, 0)), None)


_decoder = msgspec.msgpack.Decoder(UserState)


def decode_user(value: bytes) -> UserState:
    """The state that was stored."""
    return _decoder.decode(value)
