"""Requests to the server at a steady pace, as users would send them: without any, no version ever answers."""

import itertools
import threading
from collections.abc import Iterable

from streams.figures import get_json


class Probe:
    """Asks for lists of users in turn, one every `pause_seconds`, from a thread of its own, until it is stopped."""

    def __init__(self, url: str, user_ids: Iterable[str], pause_seconds: float) -> None:
        self.url = url
        self.pause_seconds = pause_seconds
        self._users = itertools.cycle(sorted(set(user_ids)))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Stop asking; the last request may still be under way."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self.pause_seconds):
            get_json(f"{self.url}/recommend", user_id=next(self._users), k=10)
