"""Records of one user, told in one line each."""

from collections.abc import Sequence

from storage.arrivals import Arrivals
from storage.changes import Acted, Exposed, Refused
from storage.columns import columns_of
from storage.entries import Entries


def exposed(
    offset: int,
    *item_ids: str,
    user_id: str = "ada",
    ts_ms: int | None = None,
    request_id: str | None = None,
    event_id: str | None = None,
) -> Exposed:
    """Items (by default `x`) shown at the time `offset`, if no other is given."""
    time = offset if ts_ms is None else ts_ms
    return Exposed(offset, user_id, time, offset + 1, list(item_ids or ("x",)), request_id, event_id)


def acted(
    offset: int,
    item_id: str = "x",
    *,
    user_id: str = "ada",
    ts_ms: int | None = None,
    action: int = 1,
    value: float | None = None,
    request_id: str | None = None,
    event_id: str | None = None,
) -> Acted:
    """An action on an item at the time `offset`, if no other is given."""
    time = offset if ts_ms is None else ts_ms
    return Acted(offset, user_id, time, offset + 1, item_id, action, value, request_id, event_id)


def refused(offset: int) -> Refused:
    """A record that is no event."""
    return Refused(
        offset=offset, kafka_ms=1, cause="wrong_type", message="?", key=b"\0", head=b"{}", size=2, sha256="0"
    )


def arrived(changes: Sequence[Exposed | Acted], epoch: int = 0) -> Arrivals:
    """Records of a chunk, all of them taken."""
    arrivals = Arrivals(epoch, columns_of(changes))
    arrivals.taken[:] = True
    return arrivals


def rows_of(*changes: Exposed | Acted, epoch: int = 0) -> Entries:
    """The rows of one user's records."""
    return arrived(changes, epoch).entries(0, len(changes))
