"""The watchdog: calls back at a time, for what no worker can be trusted with, since all of them may be stuck.

Stop timeouts that nobody waits for, and the look at runs that are stuck.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import count
from weakref import WeakMethod

from ..envelope import Envelope
from ..errors import QueueStateError
from .clock import LONGEST_WAIT, real_now
from .reporting import tell_of_failure
from .rules import Runner


class Call:
    """A call that is due at `due_at`; forgotten when `method` is None."""

    __slots__ = ("due_at", "method", "seq")

    def __init__(self, due_at: float, seq: int, method: WeakMethod[Callable[[], None]]) -> None:
        self.due_at = due_at
        self.seq = seq
        self.method: WeakMethod[Callable[[], None]] | None = method

    def __lt__(self, other: Call) -> bool:
        return (self.due_at, self.seq) < (other.due_at, other.seq)


class Watchdog:
    """One daemon thread for all queues, which lives only while it has work. What it calls must be short.

    It keeps nothing alive: a bound method whose object is gone is not called. A signal handler may come while its
    thread is inside `call_after` or `forget`, and call them again: the lock is re-entrant, new calls are appended, and
    only the thread itself touches the heap.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())
        self._new: deque[Call] = deque()
        self._due: list[Call] = []
        self._next = count().__next__
        self._thread: threading.Thread | None = None

    def call_after(self, delay: float, method: Callable[[], None]) -> None:
        """Call *method* once, *delay* real seconds from now. RuntimeError when no thread can be started for it."""
        self._new.append(Call(real_now() + delay, self._next(), WeakMethod(method)))
        with self._condition:
            if self._thread is not None:
                self._condition.notify()
                return
            thread = self._thread = threading.Thread(
                target=self._watch, name="rate-envelope-queue watchdog", daemon=True
            )
            try:
                thread.start()
            except BaseException:
                self._thread = None
                raise

    def forget(self, method: Callable[[], None]) -> None:
        """Do not call *method* any more."""
        for call in [*self._new, *self._due]:
            wanted = call.method
            if wanted is not None and wanted() in (method, None):
                call.method = None
        with self._condition:
            self._condition.notify()

    def _watch(self) -> None:
        while True:
            with self._condition:
                while (wait := self._until_next()) is not None and wait > 0:
                    self._condition.wait(min(LONGEST_WAIT, wait))
                if wait is None:
                    self._thread = None
                    return
                reference = heappop(self._due).method
            method = None if reference is None else reference()
            if method is not None:
                try:
                    method()
                except QueueStateError:  # the process forked meanwhile
                    pass
                except BaseException as error:  # a clock of one queue, say: the others go on
                    tell_of_failure("a call of the watchdog", error)
                del method  # or the thread would keep the queue while it sleeps

    def _until_next(self) -> float | None:
        """Seconds until the next call that was not forgotten; None when there is none."""
        while self._new:
            heappush(self._due, self._new.popleft())
        if any(call.method is None for call in self._due):
            self._due = [call for call in self._due if call.method is not None]
            heapify(self._due)
        return self._due[0].due_at - real_now() if self._due else None


_watchdog = Watchdog()


def call_later(delay: float, method: Callable[[], None]) -> None:
    """Call a bound *method* in *delay* real seconds, unless its object is gone by then."""
    _watchdog.call_after(delay, method)


def forget(method: Callable[[], None]) -> None:
    """Do not call *method*, which `call_later` was given."""
    _watchdog.forget(method)


def renew() -> None:
    """In a forked child: the thread did not come along."""
    global _watchdog
    _watchdog = Watchdog()


StuckRun = tuple[Envelope, int, float, str]  # envelope, attempt, seconds past its deadline, stack


def stuck_runs(runners: Iterable[Runner], limit: float, now: float) -> tuple[list[StuckRun], float]:
    """The runs that are *limit* seconds past their deadline, each once, and the seconds until another could be."""
    stuck: list[StuckRun] = []
    next_look = limit
    for runner in list(runners):
        envelope: Envelope | None = runner.envelope
        deadline_at, attempt = runner.deadline_at, runner.attempt
        if envelope is None or deadline_at is None or runner.is_reported or runner.envelope is not envelope:
            continue  # between runs, or another one by now
        if now >= deadline_at + limit:
            runner.is_reported = True
            stuck.append((envelope, attempt, now - deadline_at, runner.stack()))
        else:
            next_look = min(next_look, deadline_at + limit - now)
    return stuck, next_look
