"""`AsyncSimulatedEnvelopeQueue`: the asyncio queue on the event loop of a virtual clock, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ...envelope import Duration, Envelope
from ...results import StopMode, StopReport
from ..aio.futures import EnvelopeFuture
from ..aio.offload import Job, Offload
from ..aio.queue import AsyncEnvelopeQueue
from ..aio.scope import LoopScope
from ..aio.workers import LoopCrew
from ..scope import ThreadScope
from .loop import SimulatedLoop
from .moved import Moved, VirtualWaits


class SimulatedFuture(EnvelopeFuture):
    """A future whose awaiting by a test lets virtual time go on."""

    def __await__(self) -> Generator[Any, None, Any]:
        loop = self.get_loop()
        if asyncio._get_running_loop() is not loop:
            assert isinstance(loop, SimulatedLoop)
            loop._world.wait_until(self.done, None)
        return (yield from super().__await__())

    __iter__ = __await__


class SimulatedLoopScope(VirtualWaits, LoopScope):
    """Plain functions wait in virtual time, and so do coroutines, whose loop's it is."""

    __slots__ = ()


class SimulatedOffload(Offload):
    """Plain functions are called by carriers, not by threads."""

    def _submit(self, job: Job) -> None:
        loop = self._loop
        assert isinstance(loop, SimulatedLoop)

        def run() -> None:
            job.run()
            loop.call_soon_threadsafe(job.wake)

        loop.spawn(run)


class AsyncSimulatedEnvelopeQueue(Moved, AsyncEnvelopeQueue):
    """An `AsyncEnvelopeQueue` that runs nothing by itself and moves only when told, in virtual time.

    Same constructor and methods; `clock` must be a `VirtualClock` (one of its own when None). `advance(seconds)` goes
    through every due time in order; `run_until_idle()` runs what is ready now; both are plain calls. Handlers run on an
    event loop of the clock's own, whatever loop the test is on: `await ctx.wait(seconds)`, `asyncio.sleep`,
    `asyncio.timeout` and the like spend virtual time there, and real sockets are refused. What a test awaits (`stop`,
    `join`, `send_wait`, the future of `submit`) lets time go on until it is so, and raises `QueueStateError` when that
    is impossible; nothing of it ever suspends, so a test that is no coroutine may use `asyncio.run(queue.start())`.
    The same program always gives the same order; a KeyboardInterrupt of user code is raised to the caller once the run
    has been settled.

    >>> import asyncio
    >>> from rate_envelope_queue import Envelope
    >>> async def tick(ctx, envelope):
    ...     await asyncio.sleep(1)
    ...     print("tick at", ctx.queue.clock.now())
    >>> async def test():
    ...     async with AsyncSimulatedEnvelopeQueue("test") as queue:
    ...         queue.send(Envelope.every(60, tick, deadline=10))
    ...         queue.advance(120)
    >>> asyncio.run(test())
    tick at 1.0
    tick at 62.0
    """

    def _new_scope(self) -> ThreadScope:
        return SimulatedLoopScope(self, self._clock_now)

    def _slice_now(self) -> float:
        """A slice takes no virtual time, so it is never spent, and the order is the same each time."""
        return self._world.now()

    def _new_offload(self, crew: LoopCrew) -> Offload:
        return SimulatedOffload(crew, crew.loop)

    def _new_future(self, key: Hashable) -> EnvelopeFuture:
        return SimulatedFuture(self, key, self._world.loop)

    def _signals_to(self, inbox: Any) -> AbstractContextManager[None]:
        return nullcontext()

    async def _on_clock(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What *coroutine* returns: awaited, from a handler; else virtual time goes on until it does."""
        loop = self._world.loop
        return await coroutine if asyncio._get_running_loop() is loop else loop.complete(coroutine)

    async def start(self) -> None:
        """Be ready to run: nothing moves yet."""
        await self._on_clock(super().start())

    async def stop(
        self,
        mode: StopMode | None = None,
        *,
        wait: bool | None = None,
        timeout: Duration | None = None,
        grace: Duration = 1.0,
    ) -> StopReport:
        """As of every queue; virtual time goes on until it has stopped."""
        report: StopReport = await self._on_clock(super().stop(mode, wait=wait, timeout=timeout, grace=grace))
        return report

    async def terminate(
        self, *, wait: bool | None = None, timeout: Duration | None = None, grace: Duration = 1.0
    ) -> StopReport:
        """As of every queue; virtual time goes on until it has ended."""
        report: StopReport = await self._on_clock(super().terminate(wait=wait, timeout=timeout, grace=grace))
        return report

    async def join(self, timeout: Duration | None = None) -> bool:
        """As of every queue; virtual time goes on until nothing is left to do."""
        return bool(await self._on_clock(super().join(timeout)))

    async def send_wait(self, *envelopes: Envelope[Any], timeout: Duration | None = None) -> int:
        """As of every queue; virtual time goes on until there is room."""
        count: int = await self._on_clock(super().send_wait(*envelopes, timeout=timeout))
        return count

    async def run(self, *, timeout: Duration | None = None, grace: Duration = 1.0) -> StopReport:
        """Start, let virtual time pass until somebody stops the queue, and report. Signals are left alone."""
        report: StopReport = await self._on_clock(super().run(timeout=timeout, grace=grace))
        return report
