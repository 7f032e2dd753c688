"""An asyncio loop whose time is virtual: when nothing is ready it goes to the next timer instead of sleeping."""

from __future__ import annotations

import asyncio
import heapq
import selectors
import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from itertools import count
from math import inf
from typing import Any

STARTS_AT = 1000.0
WALL_STARTS_AT = datetime(2025, 1, 1, tzinfo=UTC)
PATIENCE = 60.0  # seconds of real time that one test may take
TOLERANCE = 1e-9  # a timer this little after an instant belongs to it: the loop's own resolution
LOOK = 0.005  # seconds of real time that the loop really sleeps while another thread may call it


class Stuck(AssertionError):
    """Nothing will ever happen, and somebody waits."""


class Jumping(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    """Looks for real events; where another would sleep until one comes, it has its loop go to the next timer."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self.loop.expects_others():
            return super().select(LOOK)
        self.loop.jump()
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of the standard library on virtual time. `expects_others` says whether a thread may call it soon."""

    def __init__(self) -> None:
        self._virtual_now = STARTS_AT
        self._idlers: list[tuple[float, int, Future[None]]] = []
        self._numbers = count()
        self._is_stuck = False
        self._gives_up_at = inf
        self.expects_others: Callable[[], bool] = lambda: False
        selector = Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual_now

    def jump(self) -> None:
        """Nothing is ready: go to the next timer, or to whoever waits until nothing happens before an instant."""
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]  # cancelled ones are not at its head here
        next_at = scheduled[0]._when if scheduled else inf
        idle_at = self._idlers[0][0] if self._idlers else inf
        if min(next_at, idle_at) == inf or time.monotonic() > self._gives_up_at:
            self._is_stuck = True
            self.stop()
        elif next_at <= idle_at + TOLERANCE:
            self._virtual_now = max(self._virtual_now, next_at)
        else:
            self._virtual_now = max(self._virtual_now, idle_at)
            future = heapq.heappop(self._idlers)[2]
            if not future.done():
                future.set_result(None)

    async def pass_until(self, at: float) -> None:
        """Return at *at*, once all that can happen until then has happened."""
        future = self.create_future()
        heapq.heappush(self._idlers, (at, next(self._numbers), future))
        await future

    def complete(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run until *coroutine* has ended; `Stuck` when nothing is left that could make it go on."""
        task = self.create_task(coroutine)
        task.add_done_callback(lambda _: self.stop())
        self._gives_up_at = time.monotonic() + PATIENCE
        was_stuck = False
        while not task.done():
            self.run_forever()
            if self._is_stuck and not task.done():
                assert not was_stuck, "stuck again after it was told"
                was_stuck, self._is_stuck = True, False
                task.cancel()
        if was_stuck:
            raise Stuck("nothing will ever happen, and the test waits") from (
                None if task.cancelled() else task.exception()
            )
        return task.result()


class LoopClock:
    """The clock of a queue on a virtual loop."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return self._loop.time()

    def wall_utc(self) -> datetime:
        return WALL_STARTS_AT + timedelta(seconds=self.now() - STARTS_AT)
