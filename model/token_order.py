"""Which tokens a window's events become: the two layouts, behind one interface.

```
targets      BOS  a     b     c       one token an event, of its item and action; behind them one token for each new
             targets  b? c?           event, that sees what is before its group, and itself: ranking is read from it
interleaved  BOS  a  a' b  b' c  c'   one token for the item, one for the action: ranking is read from the item's
```

`interleaved` is the published one (Zhai et al. 2024, section 2.2). Within a group all items come before all actions, so
that no item sees an action of its own group. In both, retrieval is read from the last token before an event's group.
What is known of the user stands among the events: its name as their items do, its value as their actions.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from model.layout import Integers

LayoutName = Literal["targets", "interleaved"]


@dataclass(frozen=True, slots=True)
class EventTokens:
    """Tokens of a window's events, those behind BOS, as columns."""

    events: Integers
    """Index of each token's event in the window."""
    has_item: npt.NDArray[np.bool_]
    has_action: npt.NDArray[np.bool_]


class TokenOrder(Protocol):
    """How events become history tokens."""

    tokens_per_event: int
    target_tokens: bool
    """Whether a new event has a token of its own behind the history, which nothing else sees."""

    def tokens(self, group_starts: Integers) -> EventTokens:
        """Tokens of events whose groups begin at these indexes, in order."""

    def item_tokens(self, group_starts: Integers, events: Integers) -> Integers:
        """Where the items of some events stand; BOS is token 0."""


class SummedTokens:
    """`targets`: one token an event."""

    tokens_per_event = 1
    target_tokens = True

    def tokens(self, group_starts: Integers) -> EventTokens:
        """Tokens of events whose groups begin at these indexes, in order."""
        every = np.ones(len(group_starts), bool)
        return EventTokens(np.arange(len(group_starts)), every, every)

    def item_tokens(self, group_starts: Integers, events: Integers) -> Integers:
        """Where the items of some events stand; BOS is token 0."""
        return 1 + events


class InterleavedTokens:
    """`interleaved`: two tokens an event."""

    tokens_per_event = 2
    target_tokens = False

    def tokens(self, group_starts: Integers) -> EventTokens:
        """Tokens of events whose groups begin at these indexes, in order."""
        index = np.arange(len(group_starts))
        ends = np.searchsorted(group_starts, group_starts, side="right")
        places = np.concatenate([group_starts + index, ends + index])
        order = np.argsort(places)
        has_item = order < len(index)
        return EventTokens(np.tile(index, 2)[order], has_item, ~has_item)

    def item_tokens(self, group_starts: Integers, events: Integers) -> Integers:
        """Where the items of some events stand; BOS is token 0."""
        return 1 + group_starts[events] + events


TOKEN_ORDERS: dict[LayoutName, TokenOrder] = {"targets": SummedTokens(), "interleaved": InterleavedTokens()}
