"""Requests at a steady pace."""

import threading

import pytest

from deploy import probe
from deploy.probe import Probe


def test_users_are_asked_for_in_turn_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions would be answered with late or never, and freshness would tell how the demo asks."""
    asked: list[tuple[str, str | int]] = []
    enough = threading.Event()

    def note(url: str, **parameters: str | int) -> None:
        asked.append((url, parameters["user_id"]))
        if len(asked) >= 5:
            enough.set()

    monkeypatch.setattr(probe, "get_json", note)
    probing = Probe("http://there", ["b", "a", "b", "c"], pause_seconds=0.001)
    probing.start()
    assert enough.wait(30)
    probing.stop()
    probing._thread.join(30)
    assert not probing._thread.is_alive()
    assert asked[:5] == [("http://there/recommend", user_id) for user_id in ("a", "b", "c", "a", "b")]
