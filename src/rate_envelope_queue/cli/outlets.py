"""Where lines go: results to stdout, dead letters to a file or to stderr, what is left to a file.

Each counts only what it has really handed over, so that the counts can be proved by counting lines.
"""

from __future__ import annotations

import json
import os
import select
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..text import error_text, escaped
from .ledger import Dead, Done
from .lines import LOOK_AGAIN, Line
from .logs import Voice
from .options import UsageFault

SMALL = 4096  # bytes that can be written to a pipe which is ready, without blocking (POSIX has 512, Linux a page)
LARGE = 1 << 18
MOST_SHOWN = 20


class Results:
    """The results, to a file descriptor that may be slow, stuck or closed by its reader.

    A write never blocks for good: `give_up`, from any thread, ends it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._is_given_up = False

    def give_up(self) -> None:
        """What cannot be written now is not written at all."""
        self._is_given_up = True

    def write(self, answers: Sequence[Done]) -> int:
        """Write the records; how many were, in full. Raises OSError, BrokenPipeError among them, when none could."""
        done = 0
        while done < len(answers):
            end, size = done, 0
            most = LARGE if self._is_file else SMALL
            while end < len(answers) and (end == done or size + len(answers[end].record) <= most):
                size += len(answers[end].record)
                end += 1
            try:
                if not self._write(b"".join(answer.record for answer in answers[done:end])):
                    break
            except OSError:
                if done:  # it will be said again
                    break
                raise
            done = end
        return done

    def _write(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            if not self._is_file and not self._poll.poll(LOOK_AGAIN):
                if self._is_given_up:
                    return False
                continue
            try:
                view = view[os.write(self._fd, view if self._is_file else view[:SMALL]) :]
            except BlockingIOError:  # whoever made the descriptor wants it so
                if self._is_given_up:
                    return False
        return True


class Screen:
    """The results, above a progress bar on the same terminal."""

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show

    def give_up(self) -> None:
        """A terminal takes what it gets."""

    def write(self, answers: Sequence[Done]) -> int:
        """Show the records."""
        self._show("".join(answer.record.decode() for answer in answers).removesuffix("\n"))
        return len(answers)


class Appended:
    """A new file to which pieces are added whole or not at all; without a piece it is taken away at the end.

    `UsageFault`, in the name of *option*, when it cannot be written or there is something in it already.
    """

    def __init__(self, path: Path, option: str) -> None:
        self.path = path
        try:
            self.is_regular = not path.exists() or path.is_file()
            if self.is_regular and path.exists() and path.stat().st_size:
                raise UsageFault(
                    f"{option}: {escaped(str(path), 300)} is not empty: move it away, or give another name"
                )
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise UsageFault(f"{option}: {error_text(error, 300)}") from None
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Write *piece*; when that fails, the file is as it was, and OSError says why."""
        view = memoryview(piece)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            self.take_back(len(piece) - len(view))
            raise
        self._size += len(piece)

    def take_back(self, size: int) -> None:
        """The last *size* bytes were not written."""
        if self.is_regular and size:
            self._file.seek(-size, os.SEEK_END)
            self._file.truncate()

    def close(self) -> None:
        """No more."""
        self._file.close()
        if self.is_regular and not self._size:
            self.path.unlink(missing_ok=True)


class DeadLetters:
    """The lines that failed for good, as they were, so that the file is input again; and beside it, why.

    `FILE.reasons` has one JSON object for each line of FILE, in the same order. What is no regular file has none.
    """

    def __init__(self, path: Path, delimiter: bytes) -> None:
        self.path = path
        self._delimiter = delimiter
        self._lines = Appended(path, "--dead-letters")
        reasons = path.with_name(f"{path.name}.reasons")
        self._reasons = Appended(reasons, "--dead-letters") if self._lines.is_regular else None
        self.reasons_path = reasons if self._lines.is_regular else None

    def write(self, letters: Sequence[tuple[Line, Dead]]) -> None:
        """Add them all, or none."""
        reasons = b"".join(reason_record(line, dead) for line, dead in letters)
        if self._reasons is not None:
            self._reasons.add(reasons)
        try:
            self._lines.add(b"".join(line.raw + self._delimiter for line, _ in letters))
        except OSError:
            if self._reasons is not None:
                self._reasons.take_back(len(reasons))
            raise

    def close(self) -> None:
        """No more; files without a line are taken away."""
        self._lines.close()
        if self._reasons is not None:
            self._reasons.close()


def reason_record(line: Line, dead: Dead) -> bytes:
    """One line of JSON."""
    fields = {"line": line.number, "error": dead.error, "reason": dead.reason, "attempts": dead.attempts, "at": dead.at}
    return json.dumps(fields).encode() + b"\n"


class ShownDead:
    """The first failures on stderr, when there is no file for them."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._shown = 0

    def write(self, letters: Sequence[tuple[Line, Dead]]) -> None:
        """Show them, unless there were many."""
        for line, dead in letters[: MOST_SHOWN - self._shown]:
            why = escaped(f"{dead.error} ({dead.reason})" if dead.reason else dead.error, 500)
            self._voice.say(f"line {line.number:,}: {why}", line=line.number, error=dead.error, reason=dead.reason)
        if self._shown < MOST_SHOWN <= self._shown + len(letters):
            self._voice.say("the next failures are not shown: --dead-letters FILE keeps them all, and why")
        self._shown = min(MOST_SHOWN, self._shown + len(letters))

    def close(self) -> None:
        """Nothing is open."""


class Left:
    """The lines that were not done when it was stopped: as they were, in their order."""

    def __init__(self, path: Path, delimiter: bytes) -> None:
        self.path = path
        self.count = 0  # of the lines written
        self._delimiter = delimiter
        self._file = Appended(path, "--left")

    def write(self, lines: Iterable[Line], rest: Iterable[bytes]) -> None:
        """Write *lines*, and the whole lines that follow as they come. Raises OSError when it cannot."""
        known = [line.raw + self._delimiter for line in lines]
        self._file.add(b"".join(known))
        self.count += len(known)
        for piece in rest:
            self._file.add(piece)
            self.count += piece.count(self._delimiter)

    def close(self) -> None:
        """No more; a file without a line is taken away."""
        self._file.close()
