"""Whether a worker can be asked: what it was given is open, and applied as far as the log went at that time."""

from typing import cast

import faust

from streams.chunks import ChunkConsumer, LogPositions


class Readiness:
    """Says what a worker is still waiting for."""

    def __init__(self, app: faust.App, partitions: LogPositions) -> None:
        self._app = app
        self._partitions = partitions

    def missing(self) -> str | None:
        """Why the worker is not ready; None where it is.

        A worker to which the group gave no partition is ready.
        """
        consumer = cast("ChunkConsumer", self._app.consumer)
        if not consumer.in_group():
            return "the consumer left its group"
        if self._app.rebalancing or not consumer.flow_active or not consumer.member_id():
            return "waiting for the group to assign partitions"
        for number, records in sorted(consumer.behind().items()):
            if number not in self._partitions.held:
                return f"partition {number} is being opened"
            if records is None:
                return f"partition {number} is not read yet"
            if records > 0:
                return f"partition {number} is {records} records behind what was there when it was assigned"
        return None
