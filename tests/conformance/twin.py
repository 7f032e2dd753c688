"""The harness for the simulated queue of asyncio: a test calls what is awaited there as it calls a queue on threads."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from rate_envelope_queue import AsyncEnvelopeQueue, StopMode
from rate_envelope_queue.drivers.aio.plans import LoopPlanBook
from rate_envelope_queue.drivers.plan import PlanBook, fold
from rate_envelope_queue.testing import AsyncSimulatedEnvelopeQueue

from .bridge import BlockingFuture, wait_for
from .harness import SimulatedHarness


class TwinPlanBook(LoopPlanBook):
    """Calls plain functions together with their stamps, which know nothing of coroutines."""

    def fold(self, policy: Any) -> Any:
        return (
            super().fold(policy)
            if policy.has_coroutines
            else self.invoker(fold(policy.invoke, policy.stamps, self.stamps))
        )


class Twin(AsyncSimulatedEnvelopeQueue):
    """Its awaited methods block, in virtual time; called on the loop, by a hook, they must not suspend."""

    def _new_plans(self, stamps: Any, fraction: float, floor: float) -> PlanBook:
        return TwinPlanBook(stamps, fraction=fraction, floor=floor, offload=self._offload)

    def _complete(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        loop = self._world.loop
        return wait_for(coroutine) if asyncio._get_running_loop() is loop else loop.complete(coroutine)

    def start(self) -> Any:
        return self._complete(AsyncEnvelopeQueue.start(self))

    def stop(self, *args: Any, **options: Any) -> Any:
        return self._complete(AsyncEnvelopeQueue.stop(self, *args, **options))

    def terminate(self, **options: Any) -> Any:
        return self._complete(AsyncEnvelopeQueue.terminate(self, **options))

    def join(self, timeout: Any = None) -> Any:
        return self._complete(AsyncEnvelopeQueue.join(self, timeout))

    def send_wait(self, *envelopes: Any, **options: Any) -> Any:
        return self._complete(AsyncEnvelopeQueue.send_wait(self, *envelopes, **options))

    def submit(self, envelope: Any) -> Any:
        return TwinFuture(super().submit(envelope))

    def __enter__(self) -> Twin:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note_kept(self.stop(None if kind is None else StopMode.STOP))


class TwinFuture(BlockingFuture):
    """The future of a submitted envelope, whose `result` lets virtual time go on."""

    async def _wait(self, timeout: float | None) -> None:
        loop = self.real.get_loop()
        if not loop._world.wait_until(self.real.done, timeout):
            raise TimeoutError


class TwinHarness(SimulatedHarness):
    """Virtual time, on the event loop of the clock."""

    kind = "twin"

    def _make(self, name: str, options: dict[str, Any]) -> Any:
        return Twin(name, **{"clock": self.clock, **options})
