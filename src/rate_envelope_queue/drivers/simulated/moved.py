"""What the simulated queues of both flavours add: a virtual clock, which moves only when told."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from math import inf
from typing import Any

from ..clock import Clock
from ..control import QueueControl
from ..scope import ThreadScope
from .world import Sleeper, VirtualClock


class VirtualWaits(ThreadScope):
    """A scope whose waits spend virtual time."""

    __slots__ = ()

    def wait(self, until: float | None) -> None:
        """Spend virtual time until *until*, or until the scope is cancelled."""
        if self.cancelled:
            return
        world: VirtualClock = self.queue.clock
        if not world.is_carrier():
            world.wait_until(lambda: self.cancelled, None if until is None else max(0.0, until - world.now()))
            return
        sleeper = Sleeper(world)
        self._waiting[sleeper] = None
        try:
            world.block(sleeper, inf if until is None else max(until, world.now()))
        finally:
            self._waiting.pop(sleeper, None)


class Moved(QueueControl):
    """A queue on a `VirtualClock`: the one it was given, or one of its own."""

    _world: VirtualClock

    def _take_clock(self, clock: Clock | None) -> Clock:
        world: Any = VirtualClock() if clock is None else clock
        if not isinstance(world, VirtualClock):
            raise TypeError(f"clock must be a VirtualClock, not {type(world).__name__}: a simulated queue moves it")
        self._world = world
        return world

    def _on_interrupt(self) -> Callable[[BaseException], None]:
        return self._world.interrupt

    def _randomness(self) -> Callable[[], float]:
        return random.Random(0).random

    @property
    def clock(self) -> VirtualClock:
        """The virtual clock."""
        return self._world

    def advance(self, seconds: float | timedelta) -> None:
        """Go *seconds* on, through everything that becomes due on this clock, in order."""
        self._world.advance(seconds)

    def run_until_idle(self) -> None:
        """Run what is ready now."""
        self._world.run_until_idle()

    def _exit(self, timeout: float) -> None:
        """Nothing runs by itself, so nothing is to be waited for."""
