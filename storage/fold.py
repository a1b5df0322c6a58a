"""How a user's rows become events: duplicates left out, each action brought to its exposure, all in order of time.

The fold is a function of the set of rows; in which order they arrived makes no difference to it.

1. Of rows with equal time, item and type the first to arrive stays.
2. An action belongs to the newest exposure of the (request, item) it names that is no further than the attribution
   window from it; else to the newest exposure of its item that is no later than it and no older than the window.
   Without either it is an event of its own (organic), and nothing else belongs to that.
3. Events stand by (time, event id's hash, index, item's hash, type).
4. Of the exposures without an action a share is kept, chosen by the row's hashes.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from storage.entries import Columns, Entries
from storage.folded import FoldedSequence

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ODD = np.uint64(0xC2B2AE3D27D4EB4F)
_NO_TIMES = np.empty(0, np.int64)
_NO_VALUES = np.empty(0)

Places = npt.NDArray[np.int64]


class Fold(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Rows of one user in order of arrival, and which event each belongs to."""

    entries: Entries
    ts_ms: Columns
    action: Columns
    target: Places
    """Place of the row that is each row's event: an exposure or organic action; itself, or -1 for a duplicate."""
    heads: Places
    """Places of the rows that are events, in order of the events."""
    exposure_rate: float

    def acted_heads(self) -> Columns:
        """Whether each row is an event that has an action."""
        flags = np.zeros(len(self.target), bool)
        flags[self.target[(self.action >= 0) & (self.target >= 0)]] = True
        return flags

    def is_sampled(self, heads: Places) -> Columns:
        """Which of these exposures are kept with or without an action."""
        if self.exposure_rate == 1:
            return np.ones(len(heads), bool)
        event, item = self.entries.rows["event"][heads], self.entries.rows["item"][heads].astype(np.uint64)
        mixed: Columns = (event ^ item ^ self.ts_ms[heads].view(np.uint64)) * _GOLDEN
        return mixed < np.uint64(int(self.exposure_rate * 2**64))

    def columns(self, heads: Places, since: int | None) -> FoldedSequence:
        """These events as columns."""
        rows = self.entries.rows
        groups, action = rows["position"][heads], self.action[heads]
        shown = action < 0
        if shown.any():
            actions, where = self._actions_on(heads)
            masks, acted, last = self._folded(actions, where, groups)
        else:
            actions, where = heads, np.arange(len(heads))
            masks, acted, last = np.left_shift(np.int64(1), action), groups, groups
        value_places, value_actions, values = self._values(actions, where)
        return FoldedSequence(
            item_ids=self.entries.item_ids(heads),
            ts_ms=self.ts_ms[heads],
            actions=masks,
            groups=groups,
            indexes=rows["index"][heads].astype(np.int64),
            acted=acted,
            last=last,
            shown=shown,
            sampled=self.is_sampled(heads),
            value_places=value_places,
            value_actions=value_actions,
            values=values,
            new_kafka_ms=_NO_TIMES if since is None else rows["kafka_ms"][self.entries.first_after(since) :],
        )

    def _actions_on(self, heads: Places) -> tuple[Places, Places]:
        """The actions that belong to these events, and to which of them."""
        place = np.full(len(self.target), -1, np.int64)
        place[heads] = np.arange(len(heads))
        actions = np.flatnonzero((self.action >= 0) & (self.target >= 0))
        where = place[self.target[actions]]
        return actions[where >= 0], where[where >= 0]

    def _folded(self, actions: Places, where: Places, groups: Places) -> tuple[Places, Places, Places]:
        """Bit masks, first actions and newest rows of events."""
        positions = self.entries.rows["position"][actions]
        masks, last = np.zeros(len(groups), np.int64), groups.copy()
        acted = np.full(len(groups), np.iinfo(np.int64).max)
        np.bitwise_or.at(masks, where, np.left_shift(np.int64(1), self.action[actions]))
        np.minimum.at(acted, where, positions)
        np.maximum.at(last, where, positions)
        return masks, np.where(masks != 0, acted, -1), last

    def _values(self, actions: Places, where: Places) -> tuple[Places, Places, Columns]:
        values = self.entries.rows["value"][actions]
        valued = np.flatnonzero(values == values)
        if not len(valued):
            return _NO_TIMES, _NO_TIMES, _NO_VALUES
        action, where, ts_ms = self.action[actions][valued], where[valued], self.ts_ms[actions][valued]
        # Rows stand in order of arrival, which lexsort leaves where all else is equal.
        order = np.lexsort((ts_ms, action, where))
        newest = np.append((where[order][1:] != where[order][:-1]) | (action[order][1:] != action[order][:-1]), True)
        chosen = order[newest]
        chosen = chosen[np.lexsort((ts_ms[chosen], where[chosen]))]
        return where[chosen], action[chosen], values[valued][chosen]


def fold_entries(entries: Entries, *, window_ms: int, exposure_rate: float) -> Fold:
    """The fold of rows that stand in order of arrival."""
    rows = entries.rows
    ts_ms, item = rows["ts_ms"].astype(np.int64), rows["item"].astype(np.uint64)
    action = rows["action"].astype(np.int64)
    kept = target = np.arange(len(rows))
    # At rising times there are no duplicates, and the order is that of arrival.
    is_rising = bool((ts_ms[1:] > ts_ms[:-1]).all())
    if not is_rising:
        kept = _first_of_kind(ts_ms, item, action)
        target = np.full(len(rows), -1, np.int64)
        target[kept] = kept
    acts = action[kept] >= 0
    heads = kept
    if not acts.all() and acts.any():
        shown, acting = kept[~acts], kept[acts]
        target = target.copy()
        target[acting] = _exposures_of(entries.rows, ts_ms, item, shown, acting, window_ms)
        heads = kept[target[kept] == kept]
    if not is_rising:
        heads = _in_order(rows, ts_ms, item, action, heads)
    fold = Fold(entries, ts_ms, action, target, heads, exposure_rate)
    if exposure_rate < 1:
        chosen = fold.acted_heads()[heads] | fold.is_sampled(heads)
        fold = Fold(entries, ts_ms, action, target, heads[chosen], exposure_rate)
    return fold


def _first_of_kind(ts_ms: Columns, item: Columns, action: Columns) -> Places:
    places = np.arange(len(ts_ms))
    mixed = np.sort((ts_ms.view(np.uint64) * _GOLDEN) ^ item ^ (action.view(np.uint64) * _ODD))
    if (mixed[1:] != mixed[:-1]).all():
        return places
    order = np.lexsort((action, item, ts_ms))
    ordered = [column[order] for column in (ts_ms, item, action)]
    first = np.append(True, np.logical_or.reduce([column[1:] != column[:-1] for column in ordered]))
    return np.sort(order[first])


def _in_order(rows: Columns, ts_ms: Columns, item: Columns, action: Columns, heads: Places) -> Places:
    times = ts_ms[heads]
    steps = times[1:] - times[:-1]
    if (steps > 0).all():
        return heads
    event, index = rows["event"][heads], rows["index"][heads]
    # Of one impression the rows stand in order already.
    within = (event[1:] == event[:-1]) & (event[1:] != 0) & (index[1:] > index[:-1])
    if ((steps > 0) | ((steps == 0) & within)).all():
        return heads
    ordered: Places = heads[np.lexsort((action[heads], item[heads], index, event, ts_ms[heads]))]
    return ordered


def _exposures_of(
    rows: Columns, ts_ms: Columns, item: Columns, shown: Places, acting: Places, window_ms: int
) -> Places:
    target = acting.copy()
    found = _newest_until(item[shown], ts_ms[shown], item[acting], ts_ms[acting], window_ms)
    target[found >= 0] = shown[found[found >= 0]]
    request = rows["request"].astype(np.uint64)
    naming, named = acting[request[acting] != 0], shown[request[shown] != 0]
    if len(naming) and len(named):
        mixed = item ^ (request * _ODD)
        latest = ts_ms[naming] + window_ms
        found = _newest_until(mixed[named], ts_ms[named], mixed[naming], latest, 2 * window_ms)
        places = np.flatnonzero(request[acting] != 0)[found >= 0]
        target[places] = named[found[found >= 0]]
    return target


def _newest_until(keys: Columns, times: Columns, of: Columns, until: Columns, within: int) -> Places:
    """For each of `of`, the place of the newest equal key that is not after `until` nor over `within` before; or -1."""
    num = len(keys)
    both, when = np.concatenate((keys, of)), np.concatenate((times, until))
    asking = np.arange(len(both)) >= num
    order = np.lexsort((asking, when, both))
    ranks = np.where(asking[order], -1, np.arange(len(order)))
    before = np.maximum.accumulate(ranks)
    candidate = order[before]  # a rank of -1 points anywhere, and is ruled out below
    fits = (before >= 0) & (both[candidate] == both[order]) & (when[order] - when[candidate] <= within)
    found = np.empty(len(of), np.int64)
    asked = asking[order]
    found[order[asked] - num] = np.where(fits, candidate, -1)[asked]
    return found
