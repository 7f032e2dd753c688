"""What the command line writes to stderr: log records as text or as JSON Lines, and its own messages among them.

No text of a user's can forge a record: in text, what follows a line break is indented and control characters are
escaped; in JSON, all of it is. Everything is bounded.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from ..text import bounded_repr, error_text, escaped

LogFormat = Literal["text", "json"]
LONGEST_MESSAGE = 30_000  # the queue's own records hold a traceback of at most 20,000
LONGEST_FIELD = 1_000
MOST_FIELDS = 50
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def message_of(record: logging.LogRecord) -> str:
    """The message with its arguments, and the traceback if there is one; never raises because of them."""
    try:
        text = record.getMessage()
    except Exception as error:
        text = f"{bounded_repr(record.msg, 500)} (its arguments do not fit: {error_text(error, 200)})"
    if record.exc_info and record.exc_info[1] is not None:
        trace = logging.Formatter().formatException(record.exc_info)
        text = f"{text}\n{trace[-20_000:]}"
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 3] + "..."


class TextFormat(logging.Formatter):
    """Time, level, logger, message; the further lines of a message are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, in as many lines as its message has."""
        first, *more = message_of(record).split("\n")
        lines = [escaped(line, LONGEST_MESSAGE) for line in (first, *more)]
        lines[0] = f"{self.formatTime(record)} {record.levelname:<7} {escaped(record.name, 100)}: {lines[0]}"
        return "\n    ".join(lines)


class JsonFormat(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, in one line of ASCII."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": escaped(record.name, 100),
            "message": message_of(record),
        }
        extras = [name for name in vars(record) if name not in STANDARD and name not in fields]
        for name in extras[:MOST_FIELDS]:
            fields[escaped(str(name), 100)] = plain(vars(record)[name])
        return json.dumps(fields, ensure_ascii=True, allow_nan=False)


def plain(value: object) -> str | int | float | bool | None:
    """*value* as something that JSON has, bounded."""
    if value is None or isinstance(value, bool):
        return value
    if type(value) is int and abs(value) < 2**63:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is str:
        return escaped(value, LONGEST_FIELD)
    return bounded_repr(value, LONGEST_FIELD)


class Stderr(logging.Handler):
    """Writes to what `sys.stderr` is at the moment: a progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            say(self.format(record))
        except Exception:  # as every handler of logging does
            self.handleError(record)


def say(text: str) -> None:
    """Write a line in one piece, since other threads write too. When nobody reads it, the work goes on."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        pass


class Voice:
    """What the command itself has to say, on stderr: a line of text, or a record like the others in JSON."""

    def __init__(self, log_format: LogFormat = "text") -> None:
        self.is_json = log_format == "json"

    def say(self, text: str, **fields: object) -> None:
        """Write *text*; *fields* are added in JSON."""
        if self.is_json:
            known = {"name": f"{__package__}", "levelno": logging.INFO, "levelname": "INFO"}
            text = JsonFormat().format(logging.makeLogRecord({**known, "msg": text, **fields}))
        say(text)


def configure(level: str, log_format: LogFormat) -> Voice:
    """Send all log records to stderr, before any module of the user's is imported."""
    handler = Stderr()
    handler.setFormatter(JsonFormat() if log_format == "json" else TextFormat())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    return Voice(log_format)
