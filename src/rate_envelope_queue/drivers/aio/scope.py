"""The scope of runs on a loop: coroutines pause in it, and plain functions wait in it as in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...context import AsyncContext
from ..clock import LONGEST_WAIT
from ..scope import ThreadScope
from .bells import call_on
from .cancels import WorkerTask


class LoopScope(ThreadScope):
    """Its contexts are for coroutines; `wait` still serves plain functions in threads."""

    __slots__ = ("_pausing",)

    def __init__(self, queue: Any, clock: Callable[[], float]) -> None:
        super().__init__(queue, clock)
        self.first_context: Any = AsyncContext(self, 1, None)
        self._pausing: dict[asyncio.Future[None], None] = {}

    async def pause(self, until: float | None, deadline: float | None) -> None:
        """Let the loop go on until *until*, or until the context has ended.

        The task of the run itself is cancelled at its end. Another task, which is not, comes back.
        """
        clock = self.clock
        has_ended = self.cancelled or (deadline is not None and clock() >= deadline)
        ends_at = until
        if deadline is not None and not isinstance(asyncio.current_task(), WorkerTask):
            ends_at = deadline if until is None else min(until, deadline)
        if has_ended or (ends_at is not None and clock() >= ends_at):
            await asyncio.sleep(0)
            return
        while not self.cancelled:
            left = None if ends_at is None else ends_at - clock()
            if left is not None and left <= 0:
                return
            await self._sleep(left)

    async def _sleep(self, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = None if seconds is None else loop.call_later(min(LONGEST_WAIT, seconds), _wake, future)
        self._pausing[future] = None
        try:
            await future
        finally:
            self._pausing.pop(future, None)
            if timer is not None:
                timer.cancel()

    def cancel(self) -> None:
        """End all contexts, and wake those that pause or wait on one."""
        super().cancel()
        for future in list(self._pausing):
            call_on(future.get_loop(), _wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
