"""Signals as notes in an inbox of the main thread, and the end of a process that has given up on something."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Any

LOOK_AGAIN = 0.25  # seconds; a signal that comes just before a wait begins is noted only when the wait ends
EXIT_PATIENCE = 1.0  # seconds that an interpreter with abandoned work has to end by itself


class Note(Enum):
    """What an inbox may hold besides signals."""

    LATE = "a stop has taken longer than it may"
    FINISHED = "there is nothing more to do"
    BROKEN_PIPE = "nobody reads the output any more"


class Inbox:
    """What the main thread is told: by signal handlers, timers and other threads."""

    def __init__(self) -> None:
        self._notes: SimpleQueue[Any] = SimpleQueue()
        self._timers: list[threading.Timer] = []

    def put(self, note: object) -> None:
        """Add a note; from anywhere, signal handlers too."""
        self._notes.put(note)

    def get(self) -> Any:
        """The next note, or None after a moment without one."""
        try:
            return self._notes.get(timeout=LOOK_AGAIN)
        except Empty:
            return None

    def get_now(self) -> Any:
        """The next note, or None when there is none."""
        try:
            return self._notes.get_nowait()
        except Empty:
            return None

    def put_later(self, note: object, seconds: float) -> None:
        """Add a note in *seconds*."""
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self.put, [note])
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def close(self) -> None:
        """Forget what was to come later."""
        for timer in self._timers:
            timer.cancel()


@contextmanager
def listening(signals: Iterable[signal.Signals] = (signal.SIGINT, signal.SIGTERM)) -> Iterator[Inbox]:
    """While inside, *signals* are notes in the inbox. Needs the main thread."""
    inbox = Inbox()
    previous: dict[signal.Signals, Any] = {}
    try:
        for number in signals:
            previous[number] = signal.signal(number, lambda received, frame: inbox.put(signal.Signals(received)))
        yield inbox
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        inbox.close()


def leave_soon(code: int) -> None:
    """See to it that the process ends with *code*, even when a thread that was given up on will not."""
    timer = threading.Timer(EXIT_PATIENCE, os._exit, [code])
    timer.daemon = True
    timer.start()
