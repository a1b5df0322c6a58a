"""The state that a log must lead to, computed the plain way: lists and dictionaries, one record after the other.

It shares no code with the store on purpose: `verify` holds the one against the other.
"""

from dataclasses import dataclass, field

from streams.events import Action, Event, Impression


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldRules:
    """The settings that shape state."""

    actions: tuple[str, ...]
    cap: int
    sample_every: int
    sample_exposures: int


@dataclass(slots=True)
class PlainEvent:
    """One event of a sequence."""

    item_id: str
    ts_ms: int
    group: int
    index: int
    shown: bool
    request_id: str | None
    actions: int = 0
    value: float | None = None

    @property
    def place(self) -> tuple[int, int, int]:
        """Where it stands in its sequence."""
        return self.ts_ms, self.group, self.index


@dataclass(slots=True)
class PlainUser:
    """A user's events in order of arrival, and how far its records are due to be learned."""

    events: list[PlainEvent] = field(default_factory=list)
    due_position: int = -1
    due_records: int = 0
    pending_records: int = 0
    pending_actions: int = 0
    pending_exposures: int = 0

    def apply(self, event: Event, position: int, rules: FoldRules) -> None:
        """Take in one record of this user."""
        if isinstance(event, Impression):
            for index, item_id in enumerate(event.items):
                self._keep(PlainEvent(item_id, event.ts_ms, position, index, True, event.request_id), rules)
            self.pending_exposures += len(event.items)
            self.pending_records += len(event.items)
            self._trigger(position, self.pending_exposures >= rules.sample_exposures)
        elif isinstance(event, Action):
            self._act(event, position, rules)
            self.pending_actions += 1
            self.pending_records += 1
            self._trigger(position, self.pending_actions >= rules.sample_every)

    def sequence(self) -> list[PlainEvent]:
        """The events in order of time."""
        return sorted(self.events, key=lambda event: event.place)

    def _act(self, action: Action, position: int, rules: FoldRules) -> None:
        shown = [event for event in self.events if event.shown and event.item_id == action.item_id]
        named = [event for event in shown if action.request_id and event.request_id == action.request_id]
        target = max(named or shown, key=lambda event: (event.group, event.index), default=None)
        if target is None:
            target = PlainEvent(action.item_id, action.ts_ms, position, 0, False, None)
            self._keep(target, rules)
        target.actions |= 1 << rules.actions.index(action.action)
        if action.value is not None:
            target.value = action.value

    def _keep(self, event: PlainEvent, rules: FoldRules) -> None:
        self.events.append(event)
        if len(self.events) > rules.cap:
            self.events.remove(min(self.events, key=lambda kept: kept.place))

    def _trigger(self, position: int, due: bool) -> None:
        if due:
            self.due_position = position
            self.due_records += self.pending_records
            self.pending_records = self.pending_actions = self.pending_exposures = 0
