"""What of a user's rows stays when there are too many: of exposures without an action the oldest go first."""

from dataclasses import dataclass

import numpy as np

from storage.entries import Entries
from storage.fold import Fold, Places


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What a trim leaves."""

    entries: Entries
    """The rows that stay, in order of arrival."""
    floor_ts: int | None
    """Event time of the oldest event, where as many are kept as may be: what is older comes too late."""
    dropped: set[int]
    """Hashes of the event ids of which no row is left."""


def trim_entries(fold: Fold, cap: int) -> Trimmed:
    """Keep the newest `cap` events with actions, then as many of the newest bare exposures as there is room for.

    Of an event's actions stay, for each type, the first to arrive, the newest to arrive, and the newest by time that
    has a value.
    """
    acted = fold.acted_heads()[fold.heads]
    with_actions, bare = fold.heads[acted], fold.heads[~acted]
    with_actions = with_actions[max(0, len(with_actions) - cap) :]
    room = cap - len(with_actions)
    heads = np.concatenate((with_actions, bare[max(0, len(bare) - room) :]))
    is_head = np.zeros(len(fold.target), bool)
    is_head[heads] = True
    stays = is_head & (fold.action < 0)
    stays[_telling_actions(fold, is_head)] = True
    rows = fold.entries.rows
    gone = set(rows["event"][~stays].tolist()) - set(rows["event"][stays].tolist()) - {0}
    floor_ts = int(fold.ts_ms[heads].min()) if len(heads) == cap else None
    return Trimmed(fold.entries.take(np.flatnonzero(stays)), floor_ts, gone)


def _telling_actions(fold: Fold, is_head: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Places:
    actions = np.flatnonzero((fold.action >= 0) & (fold.target >= 0))
    actions = actions[is_head[fold.target[actions]]]
    first, newest = _ends(fold, actions)
    valued = actions[~np.isnan(fold.entries.rows["value"][actions])]
    _, newest_valued = _ends(fold, valued[np.argsort(fold.ts_ms[valued], kind="stable")])
    return np.concatenate((first, newest, newest_valued))


def _ends(fold: Fold, actions: Places) -> tuple[Places, Places]:
    """The first and the last of each (event, type), of actions in the order given."""
    order = np.lexsort((fold.action[actions], fold.target[actions]))
    event, kind = fold.target[actions][order], fold.action[actions][order]
    changes = (event[1:] != event[:-1]) | (kind[1:] != kind[:-1])
    ordered = actions[order]
    if not len(ordered):
        return ordered, ordered
    return ordered[np.append(True, changes)], ordered[np.append(changes, True)]
