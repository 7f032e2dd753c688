"""Deadlines and budgets on a loop: one timer for a queue, and none for a coroutine that never suspends.

A phase that begins only writes down until when it may go on (`LoopRunner.limit_at`). Once the loop has control, the
timer is set to the earliest of those that are still going on; a timer that is too early by now is left alone, and
looks for the next when it fires.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cancels import LoopRunner


class Deadlines:
    """Cancels the runs of one crew that outlive their time. `earliest` is what is watched, or is to be."""

    __slots__ = ("_clock", "_has_news", "_loop", "_runners", "_timer", "_timer_at", "earliest")

    def __init__(self, loop: AbstractEventLoop, clock: Callable[[], float], runners: list[LoopRunner]) -> None:
        self._loop = loop
        self._clock = clock
        self._runners = runners
        self.earliest = inf
        self._has_news = False  # the loop will look
        self._timer: TimerHandle | None = None
        self._timer_at = inf

    def note(self, until: float) -> None:
        """A phase began that may go on until *until*, earlier than all that was known."""
        self.earliest = until
        if not self._has_news:
            self._has_news = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Have the timer set for the earliest limit of those that are still going on."""
        self._has_news = False
        nearest = min([runner.limit_at for runner in self._runners if not is_told(runner)], default=inf)
        if nearest < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(0.0, nearest - self._clock()), self._fire)
            self._timer_at = nearest
        self.earliest = min(nearest, self._timer_at)

    def _fire(self) -> None:
        self._timer = None
        self._timer_at = inf
        now = self._clock()  # not the loop's time: uvloop's timers fire up to a millisecond early
        for runner in self._runners:
            if runner.limit_at <= now and not is_told(runner):
                runner.is_fired = True
                runner.task.cancel()
        self._look()

    def close(self) -> None:
        """Nothing is watched any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = inf


def is_told(runner: LoopRunner) -> bool:
    """Whether the phase was cancelled already; there is one cancel for each."""
    return runner.is_fired or runner.is_given_up
