"""The one tree of errors that Headwater raises at run time.

    HeadwaterError
    |-- SetupError          what the user set up cannot work: settings, ports, files, brokers
    |-- StateError          local state cannot be used: other settings, other format, another log
    |   |-- StateInUseError another process holds it
    |   `-- LogHoleError    records are missing between the state and the log
    `-- SnapshotError       a snapshot is absent, damaged, of another format, or already there
        `-- SnapshotExistsError

What a caller typed wrongly is a ``ValueError``; what cannot happen is an ``assert``.
"""


class HeadwaterError(Exception):
    """Root of everything that Headwater raises at run time; its message says what to do next."""


class SetupError(HeadwaterError):
    """What the user set up cannot work as it is."""


class StateError(HeadwaterError):
    """Local state cannot be used with these settings or this log."""


class StateInUseError(StateError):
    """Local state is held by another process."""


class LogHoleError(StateError):
    """Records between the stored position and the next one that can be read are missing."""


class SnapshotError(HeadwaterError):
    """A snapshot is absent, damaged or of a format that this version does not read."""


class SnapshotExistsError(SnapshotError):
    """Another trainer has published here: this version already, or what `latest` names now."""
