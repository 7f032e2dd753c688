"""Contract section 2 on a loop: plain functions run in threads of the queue's own, and are never interrupted.

In real time: a thread knows no other.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine

import pytest

from rate_envelope_queue import (
    AsyncEnvelopeQueue,
    Cancelled,
    Context,
    DeadlineExceeded,
    Envelope,
    QueueState,
    retry_now,
)

from .awaiting import PLACES, envelope_with
from .bridge import wait_for
from .harness import check_ledger, real_loops_only
from .running import widen

pytestmark = real_loops_only


@pytest.mark.parametrize("strict", [False, True])
def test_e40_a_plain_function_is_never_cancelled_but_late(h, strict):
    """E40: a plain handler runs in a thread and returns late -> success, late counted, as on threads; with
    strict_deadline a failure."""
    widen(h)
    found = []

    def plain(ctx, envelope):
        found.append((ctx.wait(), ctx.done))
        return "late but done"

    async def plot():
        async with AsyncEnvelopeQueue("q", workers=1, strict_deadline=strict) as queue:
            future = queue.submit(Envelope.once(plain, deadline=h.s(1)))
            (outcome,) = await asyncio.gather(future, return_exceptions=True)
            await queue.join()
            return outcome, queue.stats()

    outcome, stats = wait_for(plot())
    assert found == [(True, True)]
    if strict:
        assert type(outcome) is DeadlineExceeded
        assert (stats.runs_failed, stats.late) == (1, 0)
    else:
        assert outcome == "late but done"
        assert (stats.succeeded, stats.late, stats.runs_failed) == (1, 1, 0)


def test_2_a_plain_handler_blocks_no_loop(h):
    """2: a plain handler gets a Context and a thread of the queue's own, where it may block; hooks are called on the
    loop."""
    found = {}
    opened = threading.Event()

    def plain(ctx, envelope):
        found["handler"] = (threading.current_thread().name, type(ctx))
        assert opened.wait(20)
        return "done"

    def hook(ctx, envelope):
        found["hook"] = (threading.current_thread(), type(ctx))

    async def plot():
        async with AsyncEnvelopeQueue("q", workers=1) as queue:
            future = queue.submit(Envelope(plain, before_hook=hook))
            while "handler" not in found:
                await asyncio.sleep(0.001)
            opened.set()
            return await future

    assert wait_for(plot()) == "done"
    assert found == {"handler": ("q-plain-0", Context), "hook": (threading.main_thread(), Context)}


class Request(Coroutine):
    """A coroutine that is an object of a class, as aiohttp's and those that Cython compiles are."""

    def __init__(self, coroutine):
        self.coroutine = coroutine

    def send(self, value):
        return self.coroutine.send(value)

    def throw(self, *error):
        return self.coroutine.throw(*error)

    def __await__(self):
        return self.coroutine.__await__()


@pytest.mark.parametrize(
    ("place", "given"),
    [
        *[(place, Request) for place in PLACES],
        *[(place, asyncio.ensure_future) for place in PLACES if place != "invoke"],
    ],
)
def test_2_whatever_awaitable_a_plain_function_returns(h, place, given):
    """2: a plain hook may return any awaitable, such as a task or what `gather` gives; a plain handler, which runs in a
    thread, any coroutine. Neither is taken for a success before it has ended."""

    async def awaits():
        await asyncio.sleep(h.s(0.1))
        h.mark("awaited")
        return retry_now() if place == "failure_hook" else "result"

    async def plot():
        async with AsyncEnvelopeQueue("q", hook_timeout_floor=30) as queue:
            envelope = envelope_with(place, lambda *args: given(awaits()), max_attempts=2)
            (outcome,) = await asyncio.gather(queue.submit(envelope), return_exceptions=True)
            if place == "failure_hook":
                assert (h.labels(), type(outcome)) == (["awaited"] * 2, ValueError)
            else:
                assert (h.labels(), outcome) == (["awaited"], "result" if place == "invoke" else None)

    wait_for(plot())


def test_d29_a_plain_function_that_ignores_everything_is_abandoned(h):
    """D29: stop(timeout=1, grace=0.05) with a plain handler that ignores everything -> returns in time, and
    report.abandoned names it; its end changes nothing but a counter, and frees its key."""
    opened = threading.Event()
    began = threading.Event()

    def ignores(ctx, envelope):
        began.set()
        opened.wait(20)

    async def plot():
        queue = AsyncEnvelopeQueue("q", workers=1)
        await queue.start()
        envelope = Envelope(ignores)
        queue.send(envelope)
        while not began.is_set():
            await asyncio.sleep(0.001)
        started_at = h.now()
        report = await queue.stop(timeout=h.s(1), grace=0.05)
        assert h.now() - started_at >= 1
        assert (report.abandoned, report.state) == ((envelope,), QueueState.STOPPED)
        assert (queue.stats().runs_abandoned, queue.stats().running) == (1, 0)
        await queue.start()
        assert queue.send(envelope) == 1
        await asyncio.sleep(h.s(1))
        assert queue.stats().runs_started == 1
        opened.set()
        assert await queue.join(timeout=20)
        assert (queue.stats().abandoned_ended, queue.stats().succeeded) == (1, 1)
        await queue.stop()
        check_ledger(queue)

    wait_for(plot())


def test_f50_a_plain_function_that_waits_on_its_context_is_told(h):
    """F50: terminate() while a plain handler waits on its context: it wakes at once, and is cancelled by its check."""
    waits = threading.Event()

    def plain(ctx, envelope):
        waits.set()
        assert ctx.wait()
        ctx.check()

    async def plot():
        queue = AsyncEnvelopeQueue("q", workers=1)
        await queue.start()
        envelope = Envelope(plain)
        queue.send(envelope)
        while not waits.is_set():
            await asyncio.sleep(0.001)
        report = await queue.terminate()
        assert report.returned == (envelope,)
        assert queue.stats().runs_cancelled == 1

    wait_for(plot())


@pytest.mark.parametrize("ends", ["terminate", "deadline"])
def test_3_a_stamp_cannot_repeat_a_plain_function_after_the_end(h, ends):
    """3: a plain function is waited for whatever cancels; a stamp that would call it again after its deadline, or once
    the queue has given up, is cancelled there: no invoke starts after the deadline, and terminate comes to an end."""
    calls = []

    def fails(ctx, envelope):
        calls.append(ctx)
        assert ctx.wait()
        raise ConnectionError

    def retrying(next):
        async def invoke(ctx, envelope):
            while True:
                try:
                    return await next(ctx, envelope)
                except ConnectionError:
                    await asyncio.sleep(0)

        return invoke

    async def plot():
        queue = AsyncEnvelopeQueue("q", workers=1, stamps=[retrying])
        await queue.start()
        envelope = Envelope(fails, deadline=h.s(1) if ends == "deadline" else None)
        future = queue.submit(envelope)
        while not calls:
            await asyncio.sleep(0.001)
        report = await queue.terminate(timeout=20) if ends == "terminate" else None
        (error,) = await asyncio.gather(future, return_exceptions=True)
        assert type(error) is (Cancelled if ends == "terminate" else DeadlineExceeded)
        assert report is None or (report.returned, report.timed_out) == ((envelope,), False)
        assert len(calls) == 1
        await queue.terminate()
        check_ledger(queue)

    wait_for(plot())


def test_9_a_plain_functions_error_is_a_failed_run(h):
    """9: no exception of a plain function, of any class, ends the thread or the worker that waits for it. Python lets
    no coroutine raise StopIteration: it comes as the cause of a RuntimeError."""

    class Own(BaseException):
        pass

    errors = [ValueError, SystemExit, StopIteration, GeneratorExit, asyncio.CancelledError, Own]

    def raising(ctx, envelope):
        raise envelope.payload

    async def plot():
        async with AsyncEnvelopeQueue("q", workers=1) as queue:
            for error in errors:
                seen = []
                queue.send(
                    Envelope(
                        raising, payload=error, failure_hook=lambda ctx, envelope, error, seen=seen: seen.append(error)
                    )
                )
                assert await queue.join(timeout=20)
                assert [type(error) for error in seen] == [RuntimeError if error is StopIteration else error]
            assert await queue.submit(Envelope(lambda ctx, envelope: "goes on")) == "goes on"
            assert queue.stats().runs_failed == len(errors)

    wait_for(plot())


def test_3_a_plain_function_runs_in_the_context_of_its_sender(h):
    """3: with `capture_context` the thread sees a copy of the sender's variables, and without it none."""
    variable = contextvars.ContextVar("variable", default="none")

    async def plot(captures):
        async with AsyncEnvelopeQueue("q", workers=1, capture_context=captures) as queue:
            variable.set("the sender's")
            return await queue.submit(Envelope(lambda ctx, envelope: variable.get()))

    assert wait_for(plot(True)) == "the sender's"
    assert wait_for(plot(False)) == "none"


def test_21_a_thread_that_cannot_be_started(h, monkeypatch):
    """21: where no thread can be had for a plain function, its run fails for that, and the queue goes on."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("q-plain"):
            raise RuntimeError("can't start new thread")
        start(thread)

    async def plot():
        async with AsyncEnvelopeQueue("q", workers=2) as queue:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    await queue.submit(Envelope(lambda ctx, envelope: "never"))
            futures = [queue.submit(Envelope(lambda ctx, envelope: "done")) for _ in range(4)]
            assert await asyncio.gather(*futures) == ["done"] * 4
            assert (queue.stats().dropped, queue.stats().succeeded) == (1, 4)
            check_ledger(queue)

    wait_for(plot())
