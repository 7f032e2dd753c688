"""Lines of a file descriptor, read so that another thread can end it, and so that what was not used is not lost."""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CHUNK = 1 << 16
LONGEST_LINE = 1 << 24  # bytes; a file without line ends must not fill the memory
LOOK_AGAIN = 100  # milliseconds


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input: its number, from 1 on, and its bytes without the end."""

    number: int
    raw: bytes


class LineTooLongError(OSError):
    """A line is longer than any line should be."""


class LineReader:
    """The lines of *fd*, which end with *delimiter*; a last one without it counts too.

    `next_line` belongs to one thread. `stop` may be called from another, and ends it at once, also while it waits for
    input; afterwards `rest` gives all that `next_line` has not.
    """

    def __init__(self, fd: int, delimiter: bytes) -> None:
        self.delimiter = delimiter
        self.count = 0  # of the lines given so far
        self.is_at_end = False
        self._fd = fd
        self._pending: deque[bytes] = deque()
        self._tail: list[bytes] = []  # of a line that has not ended yet
        self._wake, self._alarm = os.pipe()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._is_stopped = False

    @property
    def size(self) -> int | None:
        """Bytes from here to the end, where that can be known."""
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        return max(0, status.st_size - os.lseek(self._fd, 0, os.SEEK_CUR))

    def next_line(self) -> Line | None:
        """The next line, or None: the input has ended (`is_at_end`), or somebody has called `stop`."""
        while not self._pending:
            if self._is_stopped or self.is_at_end or not self._fill():
                return None
        if self._is_stopped:
            return None
        self.count += 1
        return Line(self.count, self._pending.popleft())

    def _fill(self) -> bool:
        """Read once; False when it was stopped while there was nothing to read."""
        ready = {fd for fd, _ in self._poll.poll()}
        if self._wake in ready:
            return False
        chunk = os.read(self._fd, CHUNK)
        if not chunk:
            self.is_at_end = True
            if any(self._tail):
                self._pending.append(b"".join(self._tail))
                self._tail.clear()
            return bool(self._pending)
        first, *others = chunk.split(self.delimiter)
        self._tail.append(first)
        if others:
            self._pending.append(b"".join(self._tail))
            self._pending.extend(others[:-1])
            self._tail = [others[-1]]
        elif sum(map(len, self._tail)) > LONGEST_LINE:
            number = self.count + len(self._pending) + 1
            raise LineTooLongError(f"line {number:,} is longer than {LONGEST_LINE:,} bytes")
        return True

    def stop(self) -> None:
        """No more lines; from any thread, more than once too."""
        self._is_stopped = True
        os.write(self._alarm, b".")

    @property
    def is_exhausted(self) -> bool:
        """Whether all there is was given."""
        return not self._pending and not any(self._tail) and (self.is_at_end or self.size == 0)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody types it."""
        return os.isatty(self._fd)

    def rest(self, is_over: Callable[[], bool]) -> Iterator[bytes]:
        """What was not given, in pieces of whole lines with their ends: all of it, or until *is_over* says so."""
        while self._pending:
            yield self._pending.popleft() + self.delimiter
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not self.is_at_end and not is_over():
            if not poll.poll(LOOK_AGAIN):
                continue
            chunk = os.read(self._fd, CHUNK)
            lines, delimiter, tail = chunk.rpartition(self.delimiter)
            if delimiter:
                yield b"".join((*self._tail, lines, delimiter))
                self._tail.clear()
            self._tail.append(tail)
            if not chunk:
                self.is_at_end = True
        if self.is_at_end and any(self._tail):
            yield b"".join(self._tail) + self.delimiter
            self._tail.clear()

    def close(self) -> None:
        """Let go of what it needed."""
        os.close(self._wake)
        os.close(self._alarm)
