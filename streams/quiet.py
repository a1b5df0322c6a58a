"""Keeps aiokafka from flooding the log: without a broker it says the same some seventy times a second."""

import logging
import time

import aiokafka  # type: ignore[import-untyped]  # noqa: F401  # its loggers must exist; it ships no types

INTERVAL_SECONDS = 5.0
"""At most one line of a kind in this time."""


class RateLimit(logging.Filter):
    """Lets one record of each origin and template pass per interval."""

    def __init__(self, interval_seconds: float = INTERVAL_SECONDS) -> None:
        super().__init__()
        self.interval_seconds = interval_seconds
        self._passed: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        now = time.monotonic()
        kind = (record.pathname, record.lineno)
        if now - self._passed.get(kind, -self.interval_seconds) < self.interval_seconds:
            return False
        self._passed[kind] = now
        return True


def limit_aiokafka_logs() -> None:
    """Install a `RateLimit` on each of aiokafka's loggers that has none."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "aiokafka":
            logger = logging.getLogger(name)
            if not any(isinstance(each, RateLimit) for each in logger.filters):
                logger.addFilter(RateLimit())
