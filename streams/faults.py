"""How a worker ends: on request, because of its state or setup, or at once because nothing else is left."""

import asyncio
import logging
import os

from storage.errors import HeadwaterError

EXIT_FAULT = 70
"""Exit status after a fault that the worker cannot handle; what supervises it starts it again."""

logger = logging.getLogger(__name__)


class Ending:
    """Waits for whatever ends the worker first; to be used on the worker's event loop."""

    def __init__(self) -> None:
        self.error: HeadwaterError | None = None
        self._requested = asyncio.Event()

    @property
    def requested(self) -> bool:
        """Whether the worker shall end."""
        return self._requested.is_set()

    def request(self) -> None:
        """End cleanly."""
        self._requested.set()

    def fail(self, error: HeadwaterError) -> None:
        """End because of this error, which `run_worker` then raises."""
        if self.error is None:
            self.error = error
        self._requested.set()

    async def wait(self) -> None:
        """Return once the worker shall end."""
        await self._requested.wait()


def exit_now(reason: str, error: BaseException | None = None) -> None:
    """End the process at once with status 70, after a log line.

    Stopping in good order would run Faust's own handling, which acknowledges what failed, or hangs.
    """
    logger.critical("the worker cannot go on and exits: %s", reason, exc_info=error)
    logging.shutdown()
    os._exit(EXIT_FAULT)
