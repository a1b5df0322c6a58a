import math
from typing import Any

import pytest

from storage.store_settings import StoreSettings


def test_the_defaults_are_valid() -> None:
    """What nobody sets must work."""
    assert StoreSettings().cap >= 512 + 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"actions": ()}, "actions must hold 1 to 62 names, got 0"),
        ({"actions": tuple(f"a{n}" for n in range(63))}, "actions must hold 1 to 62 names, got 63"),
        ({"actions": ("like", "like")}, "actions must differ from each other, got like, like"),
        ({"actions": ("",)}, "actions must be names of 1 to 64 bytes, got ''"),
        ({"actions": ("é" * 33,)}, "actions must be names of 1 to 64 bytes"),
        ({"sample_every": 0}, "sample_every must be >= 1, got 0"),
        ({"sample_exposures": 0}, "sample_exposures must be >= 1, got 0"),
        ({"num_checkpoints": 0}, "num_checkpoints must be >= 1, got 0"),
        ({"cap": 512}, "cap must be sample_exposures [+] sample_every = 513 to 8192, got 512: with less, events"),
        ({"cap": 8_193}, "cap must be .* to 8192, got 8193"),
        ({"exposure_rate": 0.0}, "exposure_rate must be > 0 and <= 1, got 0.0"),
        ({"exposure_rate": 1.1}, "exposure_rate must be > 0 and <= 1, got 1.1"),
        ({"exposure_rate": math.nan}, "exposure_rate must be > 0 and <= 1, got nan"),
        ({"attribution_seconds": -1.0}, "attribution_seconds must be >= 0 and finite, got -1.0"),
        ({"attribution_seconds": math.inf}, "attribution_seconds must be >= 0 and finite, got inf"),
        ({"label_delay_seconds": -0.1}, "label_delay_seconds must be >= 0 and finite, got -0.1"),
        ({"session_gap_seconds": math.nan}, "session_gap_seconds must be >= 0 and finite, got nan"),
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    """A setting that cannot work must say so at once, not after an hour of replay."""
    with pytest.raises(ValueError, match=message):
        StoreSettings(**wrong)


def test_the_extreme_values_are_allowed() -> None:
    """Limits are meant to be usable up to their ends."""
    StoreSettings(actions=tuple(f"a{n}" for n in range(62)), cap=2, sample_exposures=1, num_checkpoints=1)
    StoreSettings(cap=8_192, attribution_seconds=0.0, label_delay_seconds=0.0, session_gap_seconds=0.0)
    StoreSettings(exposure_rate=5e-324)
    StoreSettings(actions=("é" * 32,))
