"""What wakes a coroutine, from any thread."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Generator
from types import coroutine
from typing import Any

from ..clock import LONGEST_WAIT


class Bell:
    """Wakes the one coroutine that waits for it. `release` may be called from any thread, before or after the wait."""

    __slots__ = ("_future", "_loop", "is_rung")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None
        self.is_rung = False

    def release(self) -> None:
        """Wake whoever waits, or the next who does."""
        self.is_rung = True
        call_on(self._loop, self._wake)

    def _wake(self) -> None:
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)

    async def wait(self, delay: float | None) -> bool:
        """Sleep until woken (True), or for about *delay* seconds (False); a timer may be early: look at the clock."""
        if not self.is_rung:
            self._future = future = self._loop.create_future()
            timer = None
            if delay is not None:
                timer = self._loop.call_later(max(0.0, min(LONGEST_WAIT, delay)), self._wake)
            try:
                await future
            finally:
                self._future = None
                if timer is not None:
                    timer.cancel()
        if self.is_rung:
            self.is_rung = False
            return True
        return False


def call_on(loop: AbstractEventLoop, callback: Callable[..., object], *args: Any) -> bool:
    """Call *callback* on *loop*: now, when this is its thread, else soon. False when it has closed."""
    if asyncio._get_running_loop() is loop:
        callback(*args)
        return True
    try:
        loop.call_soon_threadsafe(callback, *args)
        return True
    except RuntimeError:  # closed; there is no way to ask that could not be outrun
        return False


@coroutine
def a_turn() -> Generator[None, None, None]:
    """Let the loop go round once."""
    yield
