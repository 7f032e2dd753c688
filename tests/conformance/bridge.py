"""Lets plain functions, as the conformance tests are written, be coroutines: they run in greenlets, and where they
would block, their greenlet gives the loop back until what they wait for has come.

So a test is one coroutine, and so is each of its handlers: a cancellation is raised where it waits.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

from greenlet import getcurrent, greenlet

from rate_envelope_queue import AsyncContext, AsyncEnvelopeQueue, Context
from rate_envelope_queue.drivers.aio.plans import LoopPlanBook
from rate_envelope_queue.drivers.plan import PlanBook, fold
from rate_envelope_queue.envelope import THREADS
from rate_envelope_queue.policy import is_coroutine


class Plain(greenlet):
    """A plain function that may wait as a coroutine does."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function, getcurrent())
        self.gr_context = getcurrent().gr_context


async def run_plain(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call *function*; what it gives to `wait_for` is awaited here."""
    plain = Plain(function)
    result = plain.switch(*arguments)
    while not plain.dead:
        try:
            value = await result
        except BaseException:
            result = plain.throw(*sys.exc_info())
        else:
            result = plain.switch(value)
    return result


def wait_for(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What *coroutine* returns. Where nobody can wait, in a callback of the loop, it must not suspend."""
    current = getcurrent()
    if isinstance(current, Plain):
        assert current.parent is not None
        return current.parent.switch(coroutine)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("a plain function that is called on the loop cannot wait")


def as_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """*function* as a coroutine function, whose context it may wait on."""

    async def call(ctx: Any, *arguments: Any) -> Any:
        return await run_plain(function, PlainContext(ctx._scope, ctx._attempt, ctx._deadline), *arguments)

    return call


class PlainContext(Context):
    """The context of a coroutine, for the plain function that it stands for."""

    __slots__ = ()

    @property
    def queue(self) -> Any:
        return self._scope.queue.facade

    def wait(self, seconds: Any = None) -> bool:
        own = AsyncContext(self._scope, self._attempt, self._deadline)
        try:
            return bool(wait_for(own.wait(seconds)))
        except CancelledError:
            if self._scope.queue.facade.is_stubborn and self.done:
                return True
            raise


class PlainPlanBook(LoopPlanBook):
    """Takes plain functions as if each were a coroutine function."""

    def hook(self, hook: Any) -> Any:
        return super().hook(hook) if hook is None or is_coroutine(hook) else as_coroutine(hook)

    def invoker(self, invoke: Any) -> Any:
        return super().invoker(invoke) if is_coroutine(invoke) else as_coroutine(invoke)

    def fold(self, policy: Any) -> Any:
        return super().fold(policy) if policy.has_coroutines else self._fold_plain(policy)

    def _fold_plain(self, policy: Any) -> Any:
        return as_coroutine(fold(policy.invoke, policy.stamps, self.stamps))


class PlainAsyncQueue(AsyncEnvelopeQueue):
    """An `AsyncEnvelopeQueue` for which plain functions are coroutines, cancelled as they are, and as quickly sent."""

    facade: BlockingQueue

    def _plain_for(self) -> str:
        return THREADS

    def _new_plans(self, stamps: Any, fraction: float, floor: float) -> PlanBook:
        return PlainPlanBook(stamps, fraction=fraction, floor=floor, offload=self._offload)


class BlockingQueue:
    """A queue on a loop with the methods of one on threads: those that are awaited block the greenlet."""

    def __init__(self, name: str, *, is_stubborn: bool, **options: Any) -> None:
        self.is_stubborn = is_stubborn  # its handlers catch the cancellation that ends their `ctx.wait`, and go on
        self.real = PlainAsyncQueue(name, **options)
        self.real.facade = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def start(self) -> None:
        wait_for(self.real.start())

    def stop(self, *args: Any, **options: Any) -> Any:
        return wait_for(self.real.stop(*args, **options))

    def terminate(self, **options: Any) -> Any:
        return wait_for(self.real.terminate(**options))

    def join(self, timeout: Any = None) -> Any:
        return wait_for(self.real.join(timeout))

    def send_wait(self, *envelopes: Any, **options: Any) -> Any:
        return wait_for(self.real.send_wait(*envelopes, **options))

    def submit(self, envelope: Any) -> BlockingFuture:
        return BlockingFuture(self.real.submit(envelope))

    def __enter__(self) -> BlockingQueue:
        wait_for(self.real.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wait_for(self.real.__aexit__(kind, error, trace))

    def __len__(self) -> int:
        return len(self.real)

    def __bool__(self) -> bool:
        return bool(self.real)

    def __repr__(self) -> str:
        return repr(self.real)

    def __reduce__(self) -> Any:
        return self.real.__reduce__()


class BlockingFuture:
    """The future of a submitted envelope, with the methods of `concurrent.futures.Future`."""

    def __init__(self, real: asyncio.Future[Any]) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def result(self, timeout: float | None = None) -> Any:
        wait_for(self._wait(timeout))
        try:
            return self.real.result()
        except asyncio.CancelledError:
            raise concurrent.futures.CancelledError from None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        wait_for(self._wait(timeout))
        try:
            return self.real.exception()
        except asyncio.CancelledError:
            raise concurrent.futures.CancelledError from None

    async def _wait(self, timeout: float | None) -> None:
        if not self.real.done():
            await asyncio.wait((self.real,), timeout=timeout)
        if not self.real.done():
            raise TimeoutError

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self.real.add_done_callback(lambda _: callback(self))
