"""Which lines are under way, and how each of them ended: exactly once, whoever says so first."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import SimpleQueue

from .lines import Line


@dataclass(frozen=True, slots=True)
class Done:
    """The function has returned; `record` is the line of output. `is_fault`: what it returned is not JSON."""

    record: bytes
    is_fault: bool = False


@dataclass(frozen=True, slots=True)
class Dead:
    """The function has failed for good."""

    error: str
    reason: str | None
    attempts: int
    at: str


@dataclass(frozen=True, slots=True)
class End:
    """Told to the writer. There are `total` lines; with None, there is nothing more to come."""

    total: int | None = None


Settled = tuple[Line, Done | Dead]


class Ledger:
    """The lines between the reader and the writer, *capacity* of them at most.

    The reader waits in `admit` while there are that many; `written` makes room. A line is settled once: by a success, a
    drop, or by `close`, after which those that are left can no longer end otherwise. From any thread.
    """

    def __init__(self, capacity: int) -> None:
        self.settled: SimpleQueue[Settled | End] = SimpleQueue()
        self._room = threading.Semaphore(capacity)
        self._lock = threading.Lock()
        self._open: dict[int, Line] = {}
        self._is_admitting = True

    def admit(self, line: Line) -> bool:
        """Take *line* in, once there is room; False when no more are taken in."""
        self._room.acquire()
        with self._lock:
            if self._is_admitting:
                self._open[line.number] = line
            return self._is_admitting

    def admit_no_more(self) -> None:
        """Nothing more comes in; who waits for room goes on."""
        with self._lock:
            self._is_admitting = False
        self._room.release()

    def settle(self, line: Line, answer: Done | Dead) -> None:
        """It ended so, unless it has ended before."""
        with self._lock:
            if self._open.pop(line.number, None) is not None:
                self.settled.put((line, answer))

    def written(self, count: int) -> None:
        """*count* lines have left."""
        if count:
            self._room.release(count)

    def close(self) -> list[Line]:
        """The lines that have not ended. Whatever ends later does not count."""
        with self._lock:
            self._is_admitting = False
            left = list(self._open.values())
            self._open.clear()
        self.settled.put(End())
        return left
