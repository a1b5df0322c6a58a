"""A made world: users with tastes, items that are born and die, drifts that draw a part of both anew.

Tastes and items are unit vectors. An item lies near the centre of its category, a user between the centres of two. What
a user thinks of an item follows from the cosine of both and from the item's appeal, which is the same to all.

Shapes: U users, I items that ever are, K categories, D features, P phases between drifts, R requests, C items that each
of them is asked about.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.simulator_settings import DAY_MS, SimulatorSettings

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

START_MS = 1_577_836_800_000
"""When every simulated stream begins: 2020-01-01, as workers refuse what lies in the future."""
_NUM_FEATURES = 16
_FONDNESS = (1.0, 0.5)
"""Weights of a user's two categories in the taste."""
_USER_SPREAD = 0.2
"""Length of what is a user's own, beside them."""
_ITEM_SPREAD = 0.5
"""Length of what is an item's own, beside the centre of its category."""
_ACTIVITY_SPREAD = 0.7
"""Deviation of the log of how often a user asks."""
_CLICK_BIAS, _CLICK_MATCH, _CLICK_APPEAL = -1.5, 5.0, 0.5
"""Log odds of a click on what is looked at: at cosine and appeal 0, by the cosine, by the appeal."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests as columns: who asks when."""

    users_R: Integers
    ts_ms_R: Integers


class SimulatedWorld:
    """All that is there before anyone asks; a function of the settings."""

    def __init__(self, settings: SimulatorSettings) -> None:
        draws = np.random.Generator(np.random.PCG64([settings.seed, 0]))
        num_drifts, num_users = settings.num_drifts, settings.num_users
        self.drifts_ms = START_MS + settings.duration_ms * np.arange(1, num_drifts + 1) // (num_drifts + 1)
        self.births_ms_I, self.deaths_ms_I = _lives(settings, draws)
        num_items = len(self.births_ms_I)
        centres_KD = _unit(draws.standard_normal((settings.num_categories, _NUM_FEATURES)))
        self.categories_I = draws.integers(settings.num_categories, size=num_items)
        self.vectors_ID = _unit(centres_KD[self.categories_I] + _ITEM_SPREAD * _own(num_items, draws))
        self.log_activity_U = _ACTIVITY_SPREAD * draws.standard_normal(num_users)
        tastes, appeals = [_tastes(centres_KD, num_users, draws)], [draws.standard_normal(num_items)]
        for _ in range(num_drifts):
            moved_U1 = draws.random((num_users, 1)) < settings.drift_share
            tastes.append(np.where(moved_U1, _tastes(centres_KD, num_users, draws), tastes[-1]))
            moved_I = draws.random(num_items) < settings.drift_share
            appeals.append(np.where(moved_I, draws.standard_normal(num_items), appeals[-1]))
        self.tastes_PUD, self.appeals_PI = np.stack(tastes), np.stack(appeals)

    def there(self, asked: Asked, items_RC: Integers) -> npt.NDArray[np.bool_]:
        """Whether each item is born by then, and not dead."""
        ts_ms_R1 = asked.ts_ms_R[:, None]
        born_RC, dead_RC = self.births_ms_I[items_RC] <= ts_ms_R1, self.deaths_ms_I[items_RC] <= ts_ms_R1
        there_RC: npt.NDArray[np.bool_] = born_RC & ~dead_RC
        return there_RC

    def matches(self, asked: Asked, items_RC: Integers) -> Floats:
        """Cosine of each item and of the user's taste, as it is then."""
        tastes_RD = self.tastes_PUD[self._phases(asked), asked.users_R]
        matches_RC: Floats = np.einsum("rd,rcd->rc", tastes_RD, self.vectors_ID[items_RC])
        return matches_RC

    def appeals(self, asked: Asked, items_RC: Integers) -> Floats:
        """Appeal of each item then; its deviation is 1."""
        appeals_RC: Floats = self.appeals_PI[self._phases(asked)[:, None], items_RC]
        return appeals_RC

    def click_log_odds(self, asked: Asked, items_RC: Integers) -> Floats:
        """Log odds of a click on each item, once it is looked at."""
        fond_RC = _CLICK_MATCH * self.matches(asked, items_RC)
        return _CLICK_BIAS + fond_RC + _CLICK_APPEAL * self.appeals(asked, items_RC)

    def _phases(self, asked: Asked) -> Integers:
        """How many drifts were by then."""
        return np.searchsorted(self.drifts_ms, asked.ts_ms_R, side="right").astype(np.int64)


def _lives(settings: SimulatorSettings, draws: np.random.Generator) -> tuple[Integers, Integers]:
    """Births and deaths of all items, in the order of births.

    Lives are exponential and births come evenly, so that as many items are there at the start as later, with as much
    life behind them as before them.
    """
    life_ms = settings.life_days * DAY_MS
    ages = np.sort(draws.exponential(life_ms, settings.num_items))[::-1]
    after = np.sort(draws.random(settings.num_births)) * settings.duration_ms
    births_ms_I = START_MS + np.concatenate([-ages, after])
    deaths_ms_I = np.maximum(births_ms_I, START_MS) + draws.exponential(life_ms, len(births_ms_I))
    return births_ms_I.astype(np.int64), deaths_ms_I.astype(np.int64)


def _tastes(centres_KD: Floats, num_users: int, draws: np.random.Generator) -> Floats:
    """A taste for each user, [U, D]."""
    order_UK = np.argsort(draws.random((num_users, len(centres_KD))), axis=1, kind="stable")
    fond_UD = np.einsum("f,ufd->ud", np.array(_FONDNESS), centres_KD[order_UK[:, : len(_FONDNESS)]])
    return _unit(fond_UD + _USER_SPREAD * _own(num_users, draws))


def _own(count: int, draws: np.random.Generator) -> Floats:
    """Vectors in all directions; their mean squared length is 1."""
    own: Floats = draws.standard_normal((count, _NUM_FEATURES)) / np.sqrt(_NUM_FEATURES)
    return own


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
