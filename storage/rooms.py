"""The parts of a store that a chunk is worked into."""

from dataclasses import dataclass

from storage.database import Database
from storage.fragments import Fragments
from storage.outbox import Outbox
from storage.prepared import Prepared
from storage.reading import Reading
from storage.runs import Rules
from storage.updates import Updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What a chunk is worked into."""

    db: Database
    rules: Rules
    fragments: Fragments
    reading: Reading
    outbox: Outbox
    prepared: Prepared
    updates: Updates
