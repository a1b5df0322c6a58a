"""The simulator: what users of a made world are shown by a logging policy, and what they do with it.

A request shows a slate. The policy draws it without replacement (Gumbel top-k, so that anything may be shown) by
appeal, freshness and, dimly, the user's taste; what a user clicked on is not shown to them again. Of a slate's places
the later ones are looked at less often (position-based model: Craswell et al., WSDM 2008). What is looked at is clicked
on by its log odds; a click may become a like, and has a value, the seconds of play.

Shapes: U users, I items, R requests of a round, C items that are there in it, S places of a slate, N rows.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.dataset import Dataset
from streams.items import Item
from streams.simulated_world import START_MS, Asked, Floats, Integers, SimulatedWorld
from streams.simulator_settings import DAY_MS, SIMULATOR, SimulatorSettings

SIMULATED_ACTIONS = ("click", "like")
"""What users do, in the order of its bits; a like is of a click."""
_ROUNDS = 8
"""Requests are made in rounds, in each of which this part of the users asks once."""
_SHOW_MATCH, _SHOW_APPEAL, _SHOW_FRESH = 4.0, 0.7, 1.0
"""Log weights of the policy: by the cosine, by the appeal, and at birth."""
_FRESH_DAYS = 1.0
"""Age at which the last is down to 1 / e."""
_LIKE_BIAS = -1.0
"""Log odds of a like of what was clicked on, less those of the click."""
_SECONDS, _SECONDS_CLICK, _SECONDS_SPREAD = 12.0, 0.3, 0.5
"""Play at even odds of a click; its log by the log odds of the click; and the deviation of its log."""


class _Rows(NamedTuple):
    """What some requests showed, as columns in the order of the stream."""

    requests_N: Integers
    users_N: Integers
    items_N: Integers
    ts_ms_N: Integers
    actions_N: Integers
    seconds_N: Floats


class Simulator:
    """A stream, and the world that it comes from, which knows what no model is told."""

    def __init__(self, settings: SimulatorSettings | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        self.world = SimulatedWorld(self.settings)

    def dataset(self) -> Dataset:
        """The stream, the same each time: a row for each item shown; those of a slate, from its top, are a group.

        User 7 is `u7`, item 7 is `i7`, and the `ts_ms` of an item is its birth. Raises `SetupError` where nothing is
        shown, as all items are dead.
        """
        rounds = list(self._rounds())
        actions_N = np.concatenate([each.actions_N for each in rounds])
        seconds_N = np.concatenate([each.seconds_N for each in rounds])
        stream = Dataset.in_time_order(
            name=SIMULATOR,
            user_ids=[f"u{user}" for each in rounds for user in each.users_N.tolist()],
            item_ids=[f"i{item}" for each in rounds for item in each.items_N.tolist()],
            ts_ms=np.concatenate([each.ts_ms_N for each in rounds]),
            actions=actions_N,
            values=np.where(actions_N != 0, seconds_N, np.nan).astype(np.float32),
            action_names=SIMULATED_ACTIONS,
            items=self._items(),
            groups=np.concatenate([each.requests_N for each in rounds]),
        )
        return replace(stream, drifts_ms=tuple(self.world.drifts_ms.tolist()))

    def _items(self) -> dict[str, Item]:
        columns = zip(self.world.categories_I.tolist(), self.world.births_ms_I.tolist(), strict=True)
        return {
            f"i{number}": Item(
                item_id=f"i{number}", title=f"Item {number}", categories=(f"category {category}",), ts_ms=born
            )
            for number, (category, born) in enumerate(columns)
        }

    def _rounds(self) -> Iterator[_Rows]:
        settings = self.settings
        draws = np.random.Generator(np.random.PCG64([settings.seed, 1]))
        clicked_UI = np.zeros((settings.num_users, len(self.world.births_ms_I)), np.bool_)
        most = -(-settings.num_users // _ROUNDS)
        for first in range(0, settings.num_requests, most):
            requests_R = np.arange(first, min(first + most, settings.num_requests))
            asked = self._asked(requests_R, draws)
            items_RS, shown_RS = self._slates(asked, clicked_UI, draws)
            actions_RS, seconds_RS = self._actions(asked, items_RS, draws)
            clicked_UI[asked.users_R[:, None], items_RS] |= shown_RS & (actions_RS != 0)
            owners_N = np.nonzero(shown_RS)[0]
            yield _Rows(
                requests_R[owners_N],
                asked.users_R[owners_N],
                items_RS[shown_RS],
                asked.ts_ms_R[owners_N],
                actions_RS[shown_RS],
                seconds_RS[shown_RS],
            )

    def _asked(self, requests_R: Integers, draws: np.random.Generator) -> Asked:
        """Who asks when: different users, by their activity, in the time of these requests."""
        order_U = np.argsort(-self.world.log_activity_U - draws.gumbel(size=self.settings.num_users), kind="stable")
        gap_ms = self.settings.gap_ms
        ts_ms_R = START_MS + requests_R * gap_ms + draws.integers(gap_ms, size=len(requests_R))
        return Asked(order_U[: len(requests_R)], ts_ms_R)

    def _slates(
        self, asked: Asked, clicked_UI: npt.NDArray[np.bool_], draws: np.random.Generator
    ) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Items at the places of each slate, [R, S], and which of the places are filled."""
        world, first_ms, last_ms = self.world, asked.ts_ms_R[0], asked.ts_ms_R[-1]
        items_C = np.flatnonzero((world.births_ms_I <= last_ms) & (first_ms < world.deaths_ms_I))
        items_RC = np.broadcast_to(items_C, (len(asked.users_R), len(items_C)))
        age_days_RC = (asked.ts_ms_R[:, None] - world.births_ms_I[items_C]) / DAY_MS
        weights_RC = _SHOW_MATCH * world.matches(asked, items_RC) + _SHOW_APPEAL * world.appeals(asked, items_RC)
        scores_RC = weights_RC + _SHOW_FRESH * np.exp(-age_days_RC / _FRESH_DAYS) + draws.gumbel(size=items_RC.shape)
        scores_RC[~world.there(asked, items_RC) | clicked_UI[asked.users_R[:, None], items_RC]] = -np.inf
        best_RS = np.argsort(-scores_RC, axis=1, kind="stable")[:, : self.settings.slate_size]
        return items_C[best_RS], np.isfinite(np.take_along_axis(scores_RC, best_RS, 1))

    def _actions(self, asked: Asked, items_RS: Integers, draws: np.random.Generator) -> tuple[Integers, Floats]:
        """Action masks of whoever is shown these items, and the seconds of play, [R, S]."""
        log_odds_RS = self.world.click_log_odds(asked, items_RS)
        looked_S = np.arange(1.0, items_RS.shape[1] + 1) ** -self.settings.position_bias
        looked_RS = draws.random(items_RS.shape) < looked_S
        clicked_RS = looked_RS & (draws.random(items_RS.shape) < _sigmoid(log_odds_RS))
        liked_RS = clicked_RS & (draws.random(items_RS.shape) < _sigmoid(log_odds_RS + _LIKE_BIAS))
        log_seconds_RS = _SECONDS_CLICK * log_odds_RS + _SECONDS_SPREAD * draws.standard_normal(items_RS.shape)
        # To the tenth: what the last bits of `exp` are depends on the machine.
        seconds_RS = np.round(_SECONDS * np.exp(log_seconds_RS), 1)
        return clicked_RS * np.int64(1) | liked_RS * np.int64(2), seconds_RS


def _sigmoid(log_odds: Floats) -> Floats:
    odds: Floats = 1 / (1 + np.exp(-log_odds))
    return odds
