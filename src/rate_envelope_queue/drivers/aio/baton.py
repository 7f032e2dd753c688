"""Fairness: one worker drains, and gives the loop back after a slice.

A worker that finds work goes on taking envelopes without letting the loop go round. That is fast, and would stall
everybody else; so what the workers take in one turn of the loop is bounded by a slice of time that belongs to the
queue. The first of them arms `_turn_over`, which the loop calls when nobody of ours is on the stack. If ready work is
left then, and nobody is sure to come back for it, all who are awake are suspended in user code: idle ones are woken,
twice as many each time.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..parking import Parking
from .bells import Bell

if TYPE_CHECKING:
    from ...core.machine import Machine

SLICE = 0.0005  # seconds of real time
LONGEST_STRIDE = 16  # envelopes between two looks at the clock, while they are short


class Baton(Parking):
    """The idle workers of a queue on a loop. `is_waking`: somebody is sure to come back, woken or letting others on."""

    __slots__ = (
        "_acquire",
        "_burst",
        "_ends_at",
        "_now",
        "_read_at",
        "_release",
        "_stride",
        "is_armed",
        "left",
        "loop",
    )

    loop: AbstractEventLoop

    def __init__(self, machine: Machine, now: Callable[[], float]) -> None:
        super().__init__(machine)
        self._now = now
        self.is_armed = False  # the loop will call _turn_over
        self._burst = 1
        self._ends_at = self._read_at = 0.0
        self._stride = 1
        self.left = 0  # how many may be taken before the next look at the clock

    def bind(self, loop: AbstractEventLoop, lock: Any) -> None:
        """Serve on *loop* from now on."""
        self.loop = loop
        self._acquire, self._release = lock.acquire, lock.release
        self.is_armed = False
        self._burst = 1

    def new_bell(self) -> Any:
        """A bell for a worker of this loop."""
        return Bell(self.loop)

    def next_wake(self) -> Any:
        """Whom to wake, unless it will be decided at the end of this turn of the loop. Called with the lock held."""
        return None if self.is_armed else super().next_wake()

    def arm(self) -> None:
        """Somebody of ours runs in this turn of the loop; a slice begins."""
        self.is_armed = True
        self._read_at = now = self._now()
        self._ends_at = now + SLICE
        self.left = self._stride = 1
        self.loop.call_soon(self._turn_over)

    def is_spent(self) -> bool:
        """Asked when `left` envelopes were taken since it was asked last: whether the loop is to go round first."""
        if not self.is_armed:
            self.arm()
            return False
        self.left = 0
        now = self._now()
        if now >= self._ends_at:
            return True
        self._stride = min(LONGEST_STRIDE, self._stride * 2) if now - self._read_at < SLICE / LONGEST_STRIDE else 1
        self._read_at = now
        self.left = self._stride
        return False

    def _turn_over(self) -> None:
        machine = self.machine
        self._acquire()
        machine.is_busy = True
        try:
            self.is_armed = False
            self.left = 0
            bells = self._next_wakes()
        finally:
            machine.is_busy = False
            self._release()
        for bell in bells:
            bell.release()

    def _next_wakes(self) -> list[Any]:
        first = super().next_wake()
        if first is None:
            self._burst = 1
            return []
        bells = [first]
        idle = self.idle
        if self.machine.takable:
            while len(bells) < self._burst and idle and idle[-1] is not self.leader:
                bells.append(idle.pop())
            self._burst *= 2 if len(bells) == self._burst else 1
        return bells
