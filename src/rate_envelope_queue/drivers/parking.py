"""Where idle workers wait, who is woken, and who watches the clock.

Idle workers stand on a stack; the one that came last is woken first. At most one wake is in flight: a worker that
takes work and sees more passes it on. One idle worker leads: it sleeps only until the next due time, so that no
thread is kept for timers. Everything here but `Watchdog` is called with the queue's lock held.
"""

from __future__ import annotations

import threading
from _thread import LockType, allocate_lock
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..core.machine import Machine


def new_bell() -> LockType:
    """A lock that is held: whoever acquires it sleeps until it is released."""
    bell = allocate_lock()
    bell.acquire()
    return bell


class Parking:
    """The idle workers of one queue, each by its bell."""

    __slots__ = ("idle", "is_waking", "leader", "leader_at", "machine")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.idle: list[LockType] = []
        self.is_waking = False  # a wake is in flight
        self.leader: LockType | None = None
        self.leader_at = 0.0

    def park(self, bell: LockType) -> float | None:
        """Stand on the stack. The instant until which to sleep, for who leads; None: until woken."""
        self.idle.append(bell)
        if self.leader is not None:
            return None
        at = self.machine.next_at()
        if at is not None:
            self.leader = bell
            self.leader_at = at
        return at

    def unpark(self, bell: LockType, *, was_woken: bool) -> LockType:
        """Leave the stack, woken or because the time came. The bell to use from now on."""
        if self.leader is bell:
            self.leader = None
        if was_woken:
            self.is_waking = False
            return bell
        if bell in self.idle:
            self.idle.remove(bell)
            return bell
        self.is_waking = False  # the time came while a wake was under way: take it, and leave the rung bell behind
        return new_bell()

    def next_wake(self) -> LockType | None:
        """Whom to wake now, if anybody; the caller rings once it has released the lock."""
        idle = self.idle
        if not idle or self.is_waking:
            return None
        machine = self.machine
        if machine.takable and machine.reserved is None and machine.active < machine.limit:
            bell = idle.pop()
            if bell is self.leader and idle:  # another can do the work, and the leader goes on leading
                idle[-1], bell = bell, idle[-1]
        else:
            at = machine.next_at()
            if at is None or (self.leader is not None and at >= self.leader_at):
                return None
            if self.leader is None:
                bell = idle.pop()
            else:
                bell = self.leader
                idle.remove(bell)
        if bell is self.leader:
            self.leader = None
        self.is_waking = True
        return bell

    def leave_all(self) -> list[LockType]:
        """Everybody goes: the bells to ring."""
        bells = self.idle[:]
        self.idle.clear()
        self.leader = None
        self.is_waking = False
        return bells


class Watchdog:
    """Calls back at a time, from one daemon thread shared by all queues; the thread lives only while it has work.

    For what no worker can be trusted with, since all of them may be stuck: stop timeouts that nobody waits for, and
    `stuck_after`. Callbacks must be short.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._next = count().__next__
        self._thread: threading.Thread | None = None

    def call_after(self, delay: float, clock: Callable[[], float], call: Callable[[], None]) -> None:
        """Call *call* once, *delay* seconds from now. *clock* is real time."""
        with self._condition:
            heappush(self._due, (clock() + delay, self._next(), call))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, args=(clock,), name="rate-envelope-queue watchdog", daemon=True
                )
                self._thread.start()
            else:
                self._condition.notify()

    def _watch(self, clock: Callable[[], float]) -> None:
        while True:
            with self._condition:
                while self._due and self._due[0][0] > clock():
                    self._condition.wait(min(3600.0, self._due[0][0] - clock()))
                if not self._due:
                    self._thread = None
                    return
                _, _, call = heappop(self._due)
            call()
            del call
