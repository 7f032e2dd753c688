"""Where idle workers wait, who is woken, and who watches the clock.

Idle workers stand on a stack; the one that came last is woken first. At most one wake is in flight: a worker that
takes work and sees more passes it on. One idle worker leads: it sleeps only until the next due time, so that no
thread is kept for timers. Everything here is called with the queue's lock held.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock
from typing import TYPE_CHECKING, Any

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
        self.idle: list[Any] = []
        self.is_waking = False  # a wake is in flight
        self.leader: Any = None
        self.leader_at = 0.0

    def new_bell(self) -> Any:
        """A bell for a worker."""
        return new_bell()

    def park(self, bell: Any) -> float | None:
        """Stand on the stack. The instant until which to sleep, for who leads; None: until woken."""
        self.idle.append(bell)
        if self.leader is not None:
            return None
        at = self.machine.next_at()
        if at is not None:
            self.leader = bell
            self.leader_at = at
        return at

    def unpark(self, bell: Any, *, was_woken: bool) -> Any:
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
        return self.new_bell()

    def next_wake(self) -> Any:
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

    def leave_all(self) -> list[Any]:
        """Everybody goes: the bells to ring."""
        bells = self.idle[:]
        self.idle.clear()
        self.leader = None
        self.is_waking = False
        return bells
