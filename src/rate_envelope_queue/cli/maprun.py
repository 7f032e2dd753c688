"""One run of `map`: a thread reads, the queue works, a thread writes, and the main thread listens to signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from signal import Signals
from threading import Thread
from typing import TYPE_CHECKING, Any

from .. import AsyncEnvelopeQueue, EnvelopeQueue, QueueStateError
from ..text import error_text
from ..workqueue import ExponentialBackoff
from .calling import Deaths, Encoder, envelope_type, handler, is_coroutine_function
from .hosts import GRACE, SLACK, AnyQueue, Host, Loop, announced, has_stopped, host_of
from .ledger import End, Ledger
from .lines import Line, LineReader
from .logs import Voice
from .outlets import DeadLetters, Left, ShownDead
from .progress import Progress
from .signals import Inbox, Note
from .tally import Tally
from .writing import ResultOutlet, Writer

if TYPE_CHECKING:
    from .mapping import Settings

LONGEST_BACKOFF = 60.0
WORKERS, COROUTINES = 4, 100


class MapRun:
    """The queue of one run, and what it is fed with."""

    def __init__(
        self, settings: Settings, function: Any, reader: LineReader, inbox: Inbox, voice: Voice, *, is_ascii: bool
    ) -> None:
        self._settings, self._reader, self._inbox, self._voice = settings, reader, inbox, voice
        self._ledger = Ledger(settings.capacity)
        self._loop = Loop()
        self._queue = self._new_queue(function)
        self._host: Host = host_of(self._queue, self._loop)
        self._unsent: list[Line] = []
        self._is_stopping = False
        self._ends_at: float | None = None
        self.now: Callable[[], float] = self._queue.clock.now
        encode = Encoder(settings.output, is_ascii=is_ascii)
        self._kind = envelope_type(
            function, handler(function, settings.input, encode, self._ledger), self._ledger, self._wall_now,
            deadline=settings.deadline, retries=settings.retries,
        )  # fmt: skip
        self._feeder = Thread(target=self._feed, name="map reader", daemon=True)

    def _new_queue(self, function: Any) -> AnyQueue:
        settings = self._settings
        is_async = is_coroutine_function(function)
        flavour = AsyncEnvelopeQueue if is_async else EnvelopeQueue
        return flavour(
            "map",
            workers=settings.workers or (COROUTINES if is_async else WORKERS),
            capacity=None,  # the ledger bounds it: a line may have been written a moment before its entry ends
            start_rate=settings.rate,
            backoff=ExponentialBackoff(settings.backoff, max(settings.backoff, LONGEST_BACKOFF)),
            dead_letter_limit=0,
            observers=[Deaths(self._ledger)],
        )

    def _wall_now(self) -> str:
        now: datetime = self._queue.clock.wall_utc()
        return now.isoformat(timespec="milliseconds")

    # The thread that reads

    def _feed(self) -> None:
        try:
            while (line := self._reader.next_line()) is not None:
                if not self._ledger.admit(line):
                    self._unsent.append(line)
                    return
                self._queue.send(self._kind.envelope(line, id=line.number))
        except QueueStateError:  # it was told to stop; the line is in the ledger
            return
        except OSError as error:
            self._inbox.put(error)
            return
        if self._reader.is_at_end:
            self._ledger.settled.put(End(self._reader.count))

    # The main thread

    def run(self, results: ResultOutlet, dead: DeadLetters | ShownDead, left: Left | None, progress: Progress) -> Tally:
        """Until the input has ended and all of it is written, or somebody stops it."""
        tally = Tally()
        began_at = self.now()
        writer = Writer(
            self._ledger, results, dead, self._inbox, progress, in_order=not self._settings.completion_order
        )
        self._host.start()
        writer.thread.start()
        self._feeder.start()
        self._attend(tally, progress)
        self._feeder.join()
        open_lines = self._ledger.close()
        writer.end(SLACK)
        progress.stop()
        stats = self._queue.stats()
        tally.done, tally.faults, tally.dead = writer.done, writer.faults, writer.dead
        tally.late = stats.late
        tally.running = stats.runs_abandoned + stats.runs_cancelled + stats.running
        tally.unwritten = len(writer.unwritten)
        self._leave(sorted([*open_lines, *writer.unwritten, *self._unsent], key=lambda line: line.number), left, tally)
        if isinstance(dead, DeadLetters):
            tally.dead_letters = str(dead.path)
            tally.reasons = None if dead.reasons_path is None else str(dead.reasons_path)
        tally.seconds = self.now() - began_at
        return tally

    def _attend(self, tally: Tally, progress: Progress) -> None:
        """Listen until the queue has stopped, or takes too long."""
        signals = 0
        while not has_stopped(self._host):
            note = self._inbox.get()
            if note is Note.LATE:
                return
            if note is Note.FINISHED:
                self._stop(SLACK)
            elif note is Note.BROKEN_PIPE:
                tally.is_pipe_broken = True
                self._stop(0.0)
            elif isinstance(note, OSError):
                tally.fault = error_text(note, 300)
                self._stop(self._settings.shutdown_timeout)
            elif isinstance(note, Signals):
                signals += 1
                tally.fault = note.name
                limit = self._settings.shutdown_timeout if signals == 1 else 0.0
                self._voice.say(announced(note, limit, signals))
                self._stop(limit)
                progress.note("draining" if signals == 1 else "cancelling")

    def _stop(self, limit: float | None) -> None:
        """Read no more, and let the queue stop within *limit* seconds."""
        if not self._is_stopping:
            self._is_stopping = True
            self._ends_at = None if limit is None else self.now() + limit
            self._reader.stop()
            self._ledger.admit_no_more()
        if limit is not None:
            self._inbox.put_later(Note.LATE, limit + GRACE + SLACK)
        self._host.begin_stop(limit)

    # What is left

    def _leave(self, lines: list[Line], left: Left | None, tally: Tally) -> None:
        """Write what is left, and the rest of the input after it."""
        tally.left = len(lines)
        if left is not None:
            tally.left_file = str(left.path)
            try:
                left.write(lines, self._rest())
            except OSError as error:
                tally.fault = f"{tally.fault or 'its end'}; left lines cannot be written: {error_text(error, 300)}"
            tally.left = max(len(lines), left.count)
        if not self._reader.is_exhausted:
            tally.unread_from = self._reader.count + tally.left - len(lines) + 1

    def _rest(self) -> Iterator[bytes]:
        """A file is read to its end; what comes through a pipe, until the time for stopping is over."""
        if self._reader.is_terminal:
            return iter(())
        return self._reader.rest(self._is_over)

    def _is_over(self) -> bool:
        if isinstance(self._inbox.get_now(), Signals):
            return True
        return self._reader.size is None and self._ends_at is not None and self.now() >= self._ends_at

    def close(self) -> None:
        """End the loop, if there is one."""
        self._loop.close()
