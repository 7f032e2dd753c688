"""Where something is, as text: a thread, or a coroutine that waits."""

from __future__ import annotations

import sys
import traceback
from typing import Any


def stack_of_thread(thread: int) -> str:
    """Where the thread with this identifier is now."""
    frame = sys._current_frames().get(thread)
    return "" if frame is None else "".join(traceback.format_stack(frame))


def stack_of_coroutine(coroutine: object) -> str:
    """Where a suspended coroutine waits: every coroutine that awaits another, the innermost last."""
    lines: list[str] = []
    while coroutine is not None:
        frame: Any = _first(coroutine, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            lines += traceback.format_list(traceback.StackSummary.extract([(frame, frame.f_lineno)]))
        coroutine = _first(coroutine, "cr_await", "gi_yieldfrom", "ag_await")
    return "".join(lines)


def _first(object_: object, *names: str) -> object | None:
    for name in names:
        value: object = getattr(object_, name, None)
        if value is not None:
            return value
    return None
