"""Log lines as JSON objects, one a line, for machines that collect them."""

import logging
from datetime import UTC, datetime

import msgspec

_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Writes time, level, logger and message, and what a line was given as `extra` (partition, offset).

    >>> record = logging.makeLogRecord({"name": "streams", "levelname": "INFO", "msg": "at 7", "partition": 3})
    >>> JsonLines().format(record).partition(",")[2]
    '"level":"INFO","logger":"streams","message":"at 7","partition":3}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object without a line break."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in record.__dict__.items() if name not in _USUAL},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()
