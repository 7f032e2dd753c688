"""Text that comes from users, made safe to show: bounded, on one line, and never able to raise."""

from __future__ import annotations

import reprlib
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

# Read past whatever a user's exception class has put in their place, which may raise.
_Exception: Any = BaseException
cause_of: Callable[[BaseException], BaseException | None] = _Exception.__cause__.__get__
_context_of: Callable[[BaseException], BaseException | None] = _Exception.__context__.__get__
_traceback_of: Callable[[BaseException], TracebackType | None] = _Exception.__traceback__.__get__
_is_context_suppressed: Callable[[BaseException], bool] = _Exception.__suppress_context__.__get__

BIDI_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


def bounded_repr(value: object, limit: int = 80) -> str:
    """A repr of at most *limit* characters, whatever the object's own repr does."""
    try:
        text = reprlib.repr(value)
    except BaseException:  # the repr belongs to the user; a message about it must not fail
        text = f"<{class_name(value)}>"
    return escaped(text, limit)


def escaped(text: str, limit: int = 1000) -> str:
    """*text* with control characters, ANSI sequences and bidi marks escaped, cut to *limit* characters."""
    if type(text) is not str:
        text = str.__str__(text)  # past the methods of a subclass
    if not text.isascii() or not text.isprintable():
        text = "".join(char if _is_harmless(char) else char.encode("unicode_escape").decode() for char in text[:limit])
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _is_harmless(char: str) -> bool:
    return char.isprintable() and char not in BIDI_MARKS


def class_name(value: object) -> str:
    """The name of *value*'s class, past a metaclass that would raise."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return str.__str__(name)


def name_of(function: object) -> str:
    """What to call *function* in a message, bounded."""
    try:
        name = getattr(function, "__name__", None)
        return escaped(name, 100) if isinstance(name, str) else class_name(function)
    except BaseException:  # a callable of the user's, which may raise at anything
        return class_name(function)


def without_traceback(error: BaseException) -> BaseException:
    """*error* itself, let go of the frames it came through."""
    return BaseException.with_traceback(error, None)


def error_text(error: BaseException, limit: int = 1000) -> str:
    """`ClassName: message` of an exception, even when its `__str__` raises."""
    try:
        message = str.__str__(str(error))  # a subclass of str would be shown by its own methods
    except BaseException:  # the same: the class alone will do
        message = "<its text could not be had>"
    name = class_name(error)
    return escaped(f"{name}: {message}" if message else name, limit)


def traceback_text(error: BaseException, limit: int = 20_000) -> str:
    """The frames and messages of *error* and of what it was raised from, as text that cannot forge a log line.

    Each message is escaped, so that every line break is one of ours. Bounded; the end, which names the error, is kept.
    """
    parts: list[str] = []
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            break
        parts.append("".join(traceback.format_tb(_traceback_of(link), limit=-30)) + error_text(link))
        cause = cause_of(link)
        link = _context_of(link) if cause is None and not _is_context_suppressed(link) else cause
    text = "\nfrom it came:\n".join(reversed(parts))
    return text if len(text) <= limit else "..." + text[-limit:]
