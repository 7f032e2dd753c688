"""Virtual time: the clock that jumps, and the one thing at a time that happens on it.

User code must be able to wait in the middle of itself while the test goes on, so it runs on carrier threads; but a
baton goes round, and whoever does not hold it sleeps. So the order is the program's alone: what is ready now, in the
order in which the queues were made; then the next event in time. A carrier that would wait hands the baton on only if
something could happen first.
"""

from __future__ import annotations

import threading
from _thread import get_ident
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from ...durations import nonnegative
from ...durations import seconds as checked_seconds
from ...errors import QueueStateError
from ..parking import new_bell

if TYPE_CHECKING:
    from .loop import SimulatedLoop

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


class Moves(Protocol):
    """What a clock moves: a queue on threads, or the event loop of the others."""

    def _next_event(self) -> float | None:
        """The instant of the next thing that it would do, at the earliest now."""
        ...

    def _step(self) -> None:
        """Do one thing that is due now."""
        ...


class Sleeper:
    """A carrier that waits in the middle of user code. A heap item is live while its `ticket` is the sleeper's."""

    __slots__ = ("bell", "is_met", "ticket", "world")

    def __init__(self, world: VirtualClock) -> None:
        self.world = world
        self.bell = new_bell()
        self.ticket = 0
        self.is_met: Callable[[], bool] | None = None

    def release(self) -> None:
        """Let it go on at this instant, when its turn comes."""
        if self.ticket:
            self.world.wake(self)


class Goal:
    """What a caller waits for: an instant, or a condition."""

    __slots__ = ("bell", "interrupt", "is_impossible", "is_met", "until")

    def __init__(self, until: float, is_met: Callable[[], bool] | None) -> None:
        self.until = until
        self.is_met = is_met
        self.bell = new_bell()
        self.is_impossible = False
        self.interrupt: BaseException | None = None


class VirtualClock:
    """A clock that moves only when told. Several simulated queues may share one.

    `now()` starts at 0.0; `wall_utc()` at 2024-01-01 UTC or *start_utc*, and moves along; `jump_wall` moves it alone.

    >>> clock = VirtualClock()
    >>> clock.advance(2.5)
    >>> clock.now()
    2.5
    """

    def __init__(self, start_utc: datetime = EPOCH) -> None:
        if not isinstance(start_utc, datetime) or start_utc.tzinfo is None:
            raise ValueError("start_utc must be a timezone-aware datetime")
        self._now = 0.0
        self._wall_at_zero = start_utc.astimezone(UTC)
        self._movables: list[Callable[[], Moves | None]] = []  # the queues are not kept alive by it
        self._loop: SimulatedLoop | None = None
        self._timeline: list[tuple[float, int, Sleeper]] = []
        self._next_ticket = count(1).__next__
        self._waiting: list[Sleeper] = []  # for a condition
        self._goal: Goal | None = None
        self._carriers: set[int] = set()
        self._spares: list[Carrier] = []
        self._leaving: list[threading.Thread] = []

    def now(self) -> float:
        """Virtual monotonic seconds."""
        return self._now

    def wall_utc(self) -> datetime:
        """The virtual date and time, in UTC."""
        return self._wall_at_zero + timedelta(seconds=self._now)

    def jump_wall(self, by: float | timedelta) -> None:
        """Change the wall clock by *by* seconds, forwards or backwards; monotonic time is not touched."""
        self._wall_at_zero += timedelta(seconds=checked_seconds(by, "by"))

    def sleep(self, seconds: float | timedelta) -> None:
        """Spend virtual time, whatever a context says. In a test, the same as `advance`."""
        span = nonnegative(seconds, "seconds")
        if self.is_carrier():
            self.block(Sleeper(self), self._now + span)
        else:
            self.advance(span)

    def advance(self, seconds: float | timedelta) -> None:
        """Go *seconds* on, through everything that becomes due on the way, in order."""
        self._drive(Goal(self._now + nonnegative(seconds, "seconds"), None))

    def run_until_idle(self) -> None:
        """Run what is ready now, until nothing more can happen without time passing."""
        self._drive(Goal(self._now, None))

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now:g} s>"

    # For the simulated queues

    def join(self, queue: Moves) -> None:
        """*queue* lives on this clock from now on."""
        self._movables.append(ref(queue))

    @property
    def loop(self) -> SimulatedLoop:
        """The event loop of its asyncio queues."""
        loop = self._loop
        if loop is None:
            from .loop import SimulatedLoop

            self._loop = loop = SimulatedLoop(self)
            self._movables.append(lambda: loop)
        return loop

    def wait_until(self, is_met: Callable[[], bool], timeout: float | None) -> bool:
        """Let things happen until *is_met*; False when *timeout* virtual seconds passed first.

        Raises QueueStateError when nothing is left that could happen.
        """
        until = inf if timeout is None else self._now + timeout
        if is_met():
            return True
        if self.is_carrier():
            sleeper = Sleeper(self)
            sleeper.is_met = is_met
            self.block(sleeper, until)
            sleeper.is_met = None
            return is_met()
        goal = Goal(until, is_met)
        self._drive(goal)
        if goal.is_impossible:
            raise QueueStateError("this would never return: nothing is left that could happen on the virtual clock")
        return is_met()

    def block(self, sleeper: Sleeper, until: float) -> None:
        """Have the calling carrier wait until *until*, or until it is woken."""
        goal = self._goal
        assert goal is not None
        if sleeper.is_met is None and until <= goal.until and self._nothing_before(until, goal):
            self._now = max(self._now, until)
            return
        sleeper.ticket = self._next_ticket()
        if until < inf:
            heappush(self._timeline, (until, sleeper.ticket, sleeper))
        if sleeper.is_met is not None:
            self._waiting.append(sleeper)
        self._hand_to_a_carrier()
        sleeper.bell.acquire()

    def wake(self, sleeper: Sleeper) -> None:
        """Let a blocked *sleeper* go on at this instant, when its turn comes."""
        sleeper.ticket = self._next_ticket()
        heappush(self._timeline, (self._now, sleeper.ticket, sleeper))

    def is_carrier(self) -> bool:
        """Whether the calling thread runs user code of this clock."""
        return get_ident() in self._carriers

    def interrupt(self, error: BaseException) -> None:
        """Raise *error*, the KeyboardInterrupt of user code, to the caller once what goes on now is settled."""
        if self._goal is not None:
            self._goal.interrupt = error

    # The baton

    def _drive(self, goal: Goal) -> None:
        if self.is_carrier():
            raise QueueStateError(
                "a handler cannot advance the clock it runs on: it spends time with ctx.wait(seconds)"
            )
        if self._goal is not None:
            raise QueueStateError("another thread is advancing this virtual clock")
        self._goal = goal
        self._hand_to_a_carrier()
        goal.bell.acquire()
        goal.is_met = None  # a failure's traceback may hold the carrier's frame, and that the goal
        leaving, self._leaving = self._leaving, []
        for carrier in leaving:
            carrier.join()
        if goal.interrupt is not None:
            try:
                raise goal.interrupt
            finally:
                goal.interrupt = None

    def _hand_to_a_carrier(self) -> None:
        if self._spares:
            self._spares.pop().bell.release()
        else:
            Carrier(self).start()

    def _hand_back(self, goal: Goal) -> None:
        """The goal is reached: carriers that idle go, and the caller goes on."""
        spares, self._spares = self._spares, []
        self._leaving = [*spares, threading.current_thread()]
        for spare in spares:
            spare.is_over = True
            spare.bell.release()
        self._goal = None
        goal.bell.release()

    def _alive(self) -> list[Moves]:
        alive = [movable for reference in self._movables if (movable := reference()) is not None]
        if len(alive) < len(self._movables):
            self._movables = [reference for reference in self._movables if reference() is not None]
        return alive

    def _nothing_before(self, until: float, goal: Goal) -> bool:
        if goal.interrupt is not None or self._waiting or (goal.is_met is not None and goal.is_met()):
            return False
        self._drop_stale()
        if self._timeline and self._timeline[0][0] <= until:
            return False
        for movable in self._alive():
            at = movable._next_event()
            if at is not None and at <= until:
                return False
        return True

    def _drop_stale(self) -> None:
        timeline = self._timeline
        while timeline and timeline[0][1] != timeline[0][2].ticket:
            heappop(timeline)

    def _carry(self, carrier: Carrier) -> bool:
        """Let things happen, holding the baton. True: it went to another carrier; False: back to the caller."""
        while True:
            goal = self._goal
            assert goal is not None
            if goal.interrupt is not None or (goal.is_met is not None and goal.is_met()):
                self._hand_back(goal)
                return False
            sleeper = self._next_met()
            if sleeper is None:
                if self._run_something(goal):
                    continue
                sleeper = self._jump(goal)
                if sleeper is None:
                    if self._goal is None:
                        return False
                    continue
            sleeper.ticket = 0
            self._spares.append(carrier)
            sleeper.bell.release()
            return True

    def _next_met(self) -> Sleeper | None:
        for sleeper in self._waiting:
            if sleeper.is_met is not None and sleeper.is_met():
                self._waiting.remove(sleeper)
                return sleeper
        return None

    def _run_something(self, goal: Goal) -> bool:
        """Do one thing that is possible at this instant."""
        self._drop_stale()
        if self._timeline and self._timeline[0][0] <= self._now:
            return False
        for movable in self._alive():
            at = movable._next_event()
            if at is not None and at <= self._now:
                movable._step()
                return True
        return False

    def _jump(self, goal: Goal) -> Sleeper | None:
        """Go to the next event. The sleeper whose time it is, if it is one's; hands back when the goal comes first."""
        at = self._timeline[0][0] if self._timeline else inf
        at_queue = min(
            (event for movable in self._alive() if (event := movable._next_event()) is not None), default=inf
        )
        if min(at, at_queue) > goal.until or min(at, at_queue) == inf:
            if goal.until < inf:
                self._now = max(self._now, goal.until)
            else:
                goal.is_impossible = True
            self._hand_back(goal)
            return None
        self._now = max(self._now, min(at, at_queue))
        if at <= at_queue:
            sleeper = heappop(self._timeline)[2]
            if sleeper in self._waiting:
                self._waiting.remove(sleeper)
            return sleeper
        return None


class Carrier(threading.Thread):
    """A thread that carries the baton and the user code that runs while it does."""

    def __init__(self, world: VirtualClock) -> None:
        super().__init__(name="rate-envelope-queue carrier", daemon=True)
        self.world = world
        self.bell: Any = new_bell()
        self.is_over = False

    def run(self) -> None:
        """Carry until the goal is reached."""
        world = self.world
        ident = get_ident()
        world._carriers.add(ident)
        try:
            while world._carry(self):
                self.bell.acquire()
                if self.is_over:
                    return
        except BaseException as error:  # a fault of this module: the test must see it, not wait for ever
            goal = world._goal
            if goal is None:
                raise
            goal.interrupt = error
            world._hand_back(goal)
        finally:
            world._carriers.discard(ident)
