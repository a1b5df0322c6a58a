"""A data set as a stream: columns of interactions in time order, and the titles of their items."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from storage.changes import Feature
from storage.errors import SetupError
from streams.items import Item


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Interactions in time order, ties in file order; every column has one length."""

    name: str
    user_ids: list[str]
    item_ids: list[str]
    ts_ms: npt.NDArray[np.int64]
    actions: npt.NDArray[np.int64]
    """Bit mask over `action_names`; 0 is an exposure without action."""
    values: npt.NDArray[np.float32]
    """Value of the action; NaN where there is none."""
    action_names: tuple[str, ...]
    items: Mapping[str, Item] = field(default_factory=dict)
    user_features: Mapping[str, Mapping[str, Feature]] = field(default_factory=dict)
    """What is known of users, by name."""
    groups: npt.NDArray[np.int64] | None = None
    """Number of each row's impression, >= 0; its rows have one time and are next to each other.
    None: each row is an impression of its own."""
    drifts_ms: tuple[int, ...] = ()
    """When what users like is known to have changed."""

    def __len__(self) -> int:
        return len(self.user_ids)

    def head(self, rows: int | None) -> Self:
        """The first rows; all of them for None."""
        if rows is None:
            return self
        if rows < 1:
            raise ValueError(f"limit must be >= 1, got {rows}")
        return replace(
            self,
            user_ids=self.user_ids[:rows],
            item_ids=self.item_ids[:rows],
            ts_ms=self.ts_ms[:rows],
            actions=self.actions[:rows],
            values=self.values[:rows],
            groups=None if self.groups is None else self.groups[:rows],
        )

    def shown_with(self, row: int) -> range:
        """Rows of the impression that a row is of."""
        if self.groups is None:
            return range(row, row + 1)
        first, end = row, row + 1
        while first > 0 and self.groups[first - 1] == self.groups[row]:
            first -= 1
        while end < len(self) and self.groups[end] == self.groups[row]:
            end += 1
        return range(first, end)

    @property
    def drift_rows(self) -> list[int]:
        """The first row after each drift, of those that have one."""
        rows = np.searchsorted(self.ts_ms, np.array(self.drifts_ms, np.int64))
        return [row for row in rows.tolist() if row < len(self)]

    @classmethod
    def in_time_order(
        cls,
        *,
        name: str,
        user_ids: list[str],
        item_ids: list[str],
        ts_ms: npt.NDArray[np.int64],
        actions: npt.NDArray[np.int64],
        values: npt.NDArray[np.float32],
        action_names: tuple[str, ...],
        items: Mapping[str, Item],
        groups: npt.NDArray[np.int64] | None = None,
    ) -> Self:
        """Sort columns by time, stably; raises `SetupError` where there are none."""
        if not user_ids:
            raise SetupError(f"data set {name} has no rows")
        order = np.argsort(ts_ms, kind="stable")
        return cls(
            name=name,
            user_ids=[user_ids[row] for row in order],
            item_ids=[item_ids[row] for row in order],
            ts_ms=ts_ms[order],
            actions=actions[order],
            values=values[order],
            action_names=action_names,
            items=items,
            groups=None if groups is None else groups[order],
        )
