"""How a user's entries become the sequence that is read: actions folded onto exposures, the oldest events capped."""

import heapq
from collections.abc import Hashable, Iterable
from typing import TypeVar

import msgspec

from storage.entries import Entry, Kind, SequenceEvent

K = TypeVar("K", bound=Hashable)


class OpenEvent(msgspec.Struct, eq=False, gc=False):
    """An event that further actions may still change."""

    item_id: str
    ts_ms: int
    group: int
    index: int
    request_id: str | None
    last: int
    actions: int = 0
    value: float | None = None
    acted: int | None = None
    kept: bool = True
    """False once newer events have pushed it out."""

    def act(self, entry: Entry) -> None:
        """Fold an action onto this event."""
        self.actions |= 1 << entry.action
        if entry.value is not None:
            self.value = entry.value
        if self.acted is None:
            self.acted = entry.position
        self.last = entry.position


class Fold:
    """A user's sequence, built from entries in the order of the log.

    An exposure adds an event. An action folds onto the newest exposure of its item that is kept: of those of the
    request it names, else of all. Where none is kept it is an event of its own (organic), onto which nothing folds.
    Whenever more than `cap` events are kept, the oldest by (ts_ms, group, index) leaves.
    """

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self._kept: list[tuple[int, int, int, OpenEvent]] = []
        self._is_heap = False
        self._of_item: dict[str, list[OpenEvent]] = {}
        self._of_request: dict[tuple[str, str], list[OpenEvent]] = {}

    def add(self, entry: Entry) -> OpenEvent:
        """Take the next entry; returns the event that holds it."""
        if entry.kind == Kind.EXPOSURE:
            event = self._keep(entry)
            self._of_item.setdefault(entry.item_id, []).append(event)
            if entry.request_id is not None:
                self._of_request.setdefault((entry.item_id, entry.request_id), []).append(event)
        else:
            event = self._exposure(entry) or self._keep(entry)
            event.act(entry)
        if len(self._kept) > self.cap:
            self._drop_oldest()
        return event

    def events(self, last: int | None = None) -> list[SequenceEvent]:
        """The kept events by (ts_ms, group, index), or only the `last` ones."""
        kept = sorted(self._kept)
        chosen = kept if last is None else kept[max(0, len(kept) - last) :]
        return [
            SequenceEvent(e.item_id, e.ts_ms, e.actions, e.value, e.group, e.index, e.acted, e.last) for *_, e in chosen
        ]

    def _keep(self, entry: Entry) -> OpenEvent:
        event = OpenEvent(entry.item_id, entry.ts_ms, entry.position, entry.index, entry.request_id, entry.position)
        ranked = (event.ts_ms, event.group, event.index, event)
        if self._is_heap:
            heapq.heappush(self._kept, ranked)
        else:
            self._kept.append(ranked)
        return event

    def _exposure(self, action: Entry) -> OpenEvent | None:
        if action.request_id is not None:
            named = self._of_request.get((action.item_id, action.request_id))
            if named:
                return named[-1]
        shown = self._of_item.get(action.item_id)
        return shown[-1] if shown else None

    def _drop_oldest(self) -> None:
        if not self._is_heap:
            heapq.heapify(self._kept)
            self._is_heap = True
        event = heapq.heappop(self._kept)[-1]
        event.kept = False
        shown = self._of_item.get(event.item_id, [])
        if event in shown:
            _remove(self._of_item, event.item_id, event)
            if event.request_id is not None:
                _remove(self._of_request, (event.item_id, event.request_id), event)


def fold_entries(entries: Iterable[Entry], cap: int) -> Fold:
    """The fold of entries that stand in the order of the log."""
    fold = Fold(cap)
    for entry in entries:
        fold.add(entry)
    return fold


def surviving(entries: list[Entry], floor: int, cap: int) -> list[Entry]:
    """The entries that reads as of `floor` or later can still tell from absent ones, in their order.

    All entries after `floor` stay. Of those before it stay the ones of events that are kept as of `floor`: the
    exposure, the first action, the first of each type, the newest with a value and the newest.
    """
    fold = Fold(cap)
    parts: dict[OpenEvent, list[Entry]] = {}
    recent: list[Entry] = []
    for entry in entries:
        if entry.position > floor:
            recent.append(entry)
        else:
            parts.setdefault(fold.add(entry), []).append(entry)
    old = [entry for event, of_event in parts.items() if event.kept for entry in _telling(of_event)]
    old.sort(key=lambda entry: (entry.position, entry.index))
    return old + recent


def _telling(of_event: list[Entry]) -> list[Entry]:
    first_of_type: dict[int, Entry] = {}
    for entry in of_event:
        first_of_type.setdefault(entry.action, entry)
    chosen = {entry.position: entry for entry in first_of_type.values()}
    valued = [entry for entry in of_event if entry.value is not None]
    for entry in (*valued[-1:], of_event[-1]):
        chosen[entry.position] = entry
    return list(chosen.values())


def _remove(groups: dict[K, list[OpenEvent]], key: K, event: OpenEvent) -> None:
    groups[key].remove(event)
    if not groups[key]:
        del groups[key]
