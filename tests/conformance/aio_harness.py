"""The harness on an event loop: asyncio's own on virtual time, and uvloop in real time.

A test is one coroutine (see `bridge`): it has the loop to itself until it waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .bridge import BlockingQueue, run_plain, wait_for
from .harness import PATIENCE, REAL_UNIT, Handle, Harness
from .virtual_loop import LoopClock, VirtualLoop

LONGEST_TEST = 60.0  # real seconds


class LoopHarness(Harness):
    """What is the same on every loop."""

    loop: AbstractEventLoop
    is_stubborn = False

    def __init__(self) -> None:
        super().__init__()
        self.held: set[Future[None]] = set()  # of handlers that are held, whatever their contexts say
        self.troubles: list[dict[str, Any]] = []  # what the loop was told of
        self.loop.set_exception_handler(self._note_trouble)
        self.started_at = self._clock_now()

    def _clock_now(self) -> float:
        raise NotImplementedError

    def complete(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call the plain function *call* on the loop, where it may wait, and run the loop until it returns."""
        raise NotImplementedError

    def run_test(self, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """Run a test; called by the suite."""
        self.complete(lambda: function(**arguments))

    def now(self) -> float:
        return (self._clock_now() - self.started_at) / self.unit

    def work(self, ctx: Any, seconds: float) -> None:
        ends_at = self._clock_now() + self.s(seconds)
        wait_for(self._hold(lambda: self.over.is_set() or self._clock_now() >= ends_at, ends_at))

    def hold(self, ctx: Any, is_over: Callable[[], bool]) -> None:
        wait_for(self._hold(is_over, None))

    def let_go(self) -> None:
        for future in list(self.held):
            if not future.done():
                future.set_result(None)

    async def _hold(self, is_over: Callable[[], bool], ends_at: float | None) -> None:
        """Wait until *is_over*, whoever cancels; looked at by `let_go`, and at *ends_at*."""
        while not is_over():
            future: Future[None] = self.loop.create_future()
            self.held.add(future)
            timer = None
            if ends_at is not None:
                timer = self.loop.call_later(ends_at - self._clock_now(), _wake, future)
            with suppress(CancelledError):
                await future
            self.held.discard(future)
            if timer is not None:
                timer.cancel()

    def in_background(self, call: Callable[[], Any]) -> Handle:
        handle = Handle(self, call)
        task = self.loop.create_task(run_plain(handle.run), context=contextvars.Context())
        handle.task = task  # type: ignore[attr-defined]  # the loop alone would not keep it
        return handle

    def close(self) -> None:
        try:
            self.complete(self._close)
            left = asyncio.all_tasks(self.loop)
            assert not left, f"tasks outlived their test: {left}"
        finally:
            self.loop.close()
        assert not self.troubles, f"the loop was told of {self.troubles}"

    def _close(self) -> None:
        self.over.set()
        self.let_go()
        super().close()

    def _note_trouble(self, loop: AbstractEventLoop, trouble: dict[str, Any]) -> None:
        """Keep it, but for the failure of a future whose result nobody wanted to know."""
        if "never retrieved" not in trouble["message"] or "task" in trouble:
            self.troubles.append(trouble)

    def _make(self, name: str, options: dict[str, Any]) -> Any:
        return BlockingQueue(name, is_stubborn=self.is_stubborn, **options)


class AsyncioHarness(LoopHarness):
    """asyncio on virtual time: exact, and nothing takes any."""

    kind = "asyncio"
    is_virtual = True
    loop: VirtualLoop

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop)
        super().__init__()

    def _clock_now(self) -> float:
        return self.loop.time()

    def _make(self, name: str, options: dict[str, Any]) -> Any:
        return super()._make(name, {"clock": self.clock, **options})

    def complete(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return self.loop.complete(run_plain(call, *arguments))

    def pass_time(self, seconds: float) -> None:
        wait_for(self.loop.pass_until(self.loop.time() + seconds))

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
        self.until_virtually(condition, timeout)

    def _settle(self) -> None:
        self.pass_time(1000)


class StubbornHarness(AsyncioHarness):
    """asyncio on virtual time, with handlers that catch the cancellation that ends a wait on their context, and go on.

    For tests whose handlers are told by `ctx.wait()` that their time is up: a coroutine is told by a cancellation.
    """

    kind = "stubborn"
    is_stubborn = True


class RealLoopHarness(LoopHarness):
    """A loop in real time: a test second takes `unit` seconds."""

    unit = REAL_UNIT

    def _clock_now(self) -> float:
        return time.monotonic()

    def complete(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return self.loop.run_until_complete(self._bounded(call, *arguments))

    async def _bounded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        async with asyncio.timeout(LONGEST_TEST):
            return await run_plain(call, *arguments)

    def pass_time(self, seconds: float) -> None:
        wait_for(asyncio.sleep(self.s(seconds)))

    def until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
        ends_at = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < ends_at, f"not so within {timeout} real seconds; log: {self.log}"
            wait_for(asyncio.sleep(0.001))

    def _settle(self) -> None:
        self.until(lambda: len(asyncio.all_tasks()) == 1)


class RealAsyncioHarness(RealLoopHarness):
    """asyncio in real time: for plain functions, whose threads know no other."""

    kind = "real asyncio"

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        super().__init__()


class UvloopHarness(RealLoopHarness):
    """uvloop, which has no other time than the real one."""

    kind = "uvloop"

    def __init__(self) -> None:
        import uvloop

        self.loop = uvloop.new_event_loop()
        super().__init__()


def _wake(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
