"""The writer: a thread that brings settled lines into order and hands them to the outlets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any, Protocol

from .ledger import Dead, Done, End, Ledger, Settled
from .lines import Line
from .progress import Progress
from .signals import Inbox, Note

BATCH = 1000


class ResultOutlet(Protocol):
    """Where results go."""

    def write(self, answers: Sequence[Done]) -> int:
        """How many were written, from the first on."""
        ...

    def give_up(self) -> None:
        """Do not wait for who does not read."""
        ...


class DeadOutlet(Protocol):
    """Where dead letters go."""

    def write(self, letters: Sequence[tuple[Line, Dead]]) -> None:
        """Write them all, or none and raise OSError."""
        ...

    def close(self) -> None:
        """There are no more."""
        ...


class Writer:
    """Takes settled lines from the ledger until its end, in input order or as they come.

    `done`, `faults` (of those done, results that are not JSON), `dead` and `unwritten` are what became of them; they
    are final when the thread has ended. *progress* hears of it.
    """

    def __init__(
        self, ledger: Ledger, results: ResultOutlet, dead: DeadOutlet, inbox: Inbox,
        progress: Progress, *, in_order: bool,
    ) -> None:  # fmt: skip
        self.done = self.faults = self.dead = 0
        self.unwritten: list[Line] = []
        self._ledger, self._results, self._dead_outlet = ledger, results, dead
        self._inbox, self._progress, self._in_order = inbox, progress, in_order
        self._waiting: dict[int, Settled] = {}
        self._next = 1
        self._total: int | None = None
        self._has_failed = False
        self._is_over = False
        self.thread = Thread(target=self._work, name="map writer", daemon=True)

    def end(self, patience: float) -> None:
        """What has come by now is written; what has not been after *patience* seconds is not."""
        self.thread.join(patience)
        self._results.give_up()
        self.thread.join()

    def _work(self) -> None:
        while not self._is_over:
            self._take()
            self._write(self._ready())
            if self.done + self.dead == self._total:
                self._total = None
                self._inbox.put(Note.FINISHED)

    def _take(self) -> None:
        """Wait for one, and take what else is there."""
        settled = self._ledger.settled
        self._note(settled.get())
        for _ in range(min(settled.qsize(), BATCH)):
            self._note(settled.get())

    def _note(self, note: Settled | End) -> None:
        if not isinstance(note, End):
            self._waiting[note[0].number] = note
        elif note.total is None:
            self._is_over = True
        else:
            self._total = note.total

    def _ready(self) -> list[Settled]:
        """Those whose turn it is; at the end all of them, past the gaps of those that are left."""
        if not self._in_order or self._is_over:
            ready = [self._waiting[number] for number in (sorted(self._waiting) if self._in_order else self._waiting)]
            self._waiting.clear()
            return ready
        ready = []
        while self._next in self._waiting:
            ready.append(self._waiting.pop(self._next))
            self._next += 1
        return ready

    def _write(self, ready: list[Settled]) -> None:
        results = [(line, answer) for line, answer in ready if isinstance(answer, Done)]
        letters = [(line, answer) for line, answer in ready if isinstance(answer, Dead)]
        done = self._try(results, self._write_results)
        self.done += done
        self.faults += sum(answer.is_fault for _, answer in results[:done])
        dead = self._try(letters, self._write_letters)
        self.dead += dead
        gone = [*results[:done], *letters[:dead]]
        self.unwritten += (line for line, _ in (*results[done:], *letters[dead:]))
        self._ledger.written(len(gone))
        self._progress.moved(sum(len(line.raw) + 1 for line, _ in gone), self.done, self.dead)

    def _try(self, answers: list[Any], write: Callable[[list[Any]], int]) -> int:
        """How many of *answers* were written; once something failed nothing more is."""
        done = 0
        while done < len(answers) and not self._has_failed:
            try:
                count = write(answers[done:])
            except OSError as error:
                self._has_failed = True
                self._inbox.put(Note.BROKEN_PIPE if isinstance(error, BrokenPipeError) else error)
                break
            if not count:
                break
            done += count
        return done

    def _write_results(self, answers: list[tuple[Line, Done]]) -> int:
        return self._results.write([answer for _, answer in answers])

    def _write_letters(self, answers: list[tuple[Line, Dead]]) -> int:
        self._dead_outlet.write(answers)
        return len(answers)
