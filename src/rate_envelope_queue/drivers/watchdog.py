"""The watchdog: calls back at a time, for what no worker can be trusted with, since all of them may be stuck.

Stop timeouts that nobody waits for, and the look at runs that are stuck.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import count
from weakref import WeakMethod

from ..envelope import Envelope
from ..errors import QueueStateError
from .clock import LONGEST_WAIT, real_now
from .reporting import Reporter
from .rules import Runner


class Watchdog:
    """One daemon thread for all queues, which lives only while it has work. What it calls must be short.

    It keeps nothing alive: a bound method whose object is gone is not called.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._due: list[tuple[float, int, WeakMethod[Callable[[], None]]]] = []
        self._next = count().__next__
        self._thread: threading.Thread | None = None

    def call_after(self, delay: float, method: Callable[[], None]) -> None:
        """Call *method* once, *delay* real seconds from now."""
        with self._condition:
            heappush(self._due, (real_now() + delay, self._next(), WeakMethod(method)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="rate-envelope-queue watchdog", daemon=True)
                self._thread.start()
            else:
                self._condition.notify()

    def forget(self, method: Callable[[], None]) -> None:
        """Do not call *method* any more."""
        with self._condition:
            self._due = [item for item in self._due if item[2]() not in (method, None)]
            heapify(self._due)
            self._condition.notify()

    def _watch(self) -> None:
        while True:
            with self._condition:
                while self._due and self._due[0][0] > real_now():
                    self._condition.wait(min(LONGEST_WAIT, self._due[0][0] - real_now()))
                if not self._due:
                    self._thread = None
                    return
                method = heappop(self._due)[2]()
            if method is not None:
                try:
                    method()
                except QueueStateError:  # the process forked meanwhile
                    pass
                del method  # or the thread would keep the queue while it sleeps


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


def report_stuck(runners: Iterable[Runner], limit: float, now: float, reporter: Reporter) -> float:
    """Report, once each, the runs that are *limit* seconds past their deadline. Seconds until another could be."""
    next_look = limit
    for runner in list(runners):
        envelope: Envelope | None = runner.envelope
        deadline_at, attempt = runner.deadline_at, runner.attempt
        if envelope is None or deadline_at is None or runner.is_reported or runner.envelope is not envelope:
            continue  # between runs, or another one by now
        overdue = now - deadline_at
        if overdue >= limit:
            runner.is_reported = True
            reporter.stuck(envelope, attempt, overdue, runner.stack())
        else:
            next_look = min(next_look, limit - overdue)
    return next_look
