from typing import Any

import pytest

from storage.store_settings import StoreSettings


def test_the_defaults_are_valid() -> None:
    """What nobody sets must work."""
    assert StoreSettings().cap >= 512 + 1_000 + 1


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
        ({"cap": 1_512}, "cap must be >= sample_exposures [+] 1000 [+] sample_every = 1513, got 1512"),
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    """A setting that cannot work must say so at once, not after an hour of replay."""
    with pytest.raises(ValueError, match=message):
        StoreSettings(**wrong)


def test_the_extreme_values_are_allowed() -> None:
    """Limits are meant to be usable up to their ends."""
    StoreSettings(actions=tuple(f"a{n}" for n in range(62)), cap=1_002, sample_exposures=1, num_checkpoints=1)
    StoreSettings(actions=("é" * 32,))
