"""Faults on a loop: what user code raises and swallows, and who is cancelled while it waits.

Handlers here are coroutine functions, awaited as users write them.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from rate_envelope_queue import CapacityExceededError, DeadlineExceeded, Envelope, QueueState

from .awaiting import at_each_place, envelope_with, goes_on, ignored, new_queue
from .bridge import wait_for
from .harness import loops_only
from .hostile import OwnBase
from .running import Seen

pytestmark = loops_only
# What user code raises


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after a suspension"])
@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, GeneratorExit, OwnBase, BaseExceptionGroup])
@at_each_place
def test_9_a_coroutine_may_raise_anything(h, place, error, late):
    """9: no exception of user code, of any class, ends a worker: CancelledError that nobody asked for, SystemExit,
    GeneratorExit; a failed run, or a reported hook."""

    async def raising(*args):
        if late:
            await asyncio.sleep(0)
        raise error("mine", [SystemExit()]) if error is BaseExceptionGroup else error("mine")

    async def plot():
        seen = Seen()
        queue = new_queue(h, workers=2, observers=(seen,))
        await queue.start()
        queue.send(envelope_with(place, raising, deadline=h.s(100)))
        assert await queue.join(timeout=30)
        told = seen.failed if place in ("before_hook", "invoke") else seen.hook_failed
        assert [type(event.error) for event in told] == [error]
        stats = queue.stats()
        assert stats.runs_cancelled == 0
        assert stats.succeeded + stats.dropped == 1
        await goes_on(h, queue)

    wait_for(plot())


@at_each_place
def test_9_who_cancels_its_own_task_has_failed(h, place):
    """9: a cancellation that user code asked for itself is the user's, and reaches no other envelope of the worker."""

    async def cancels(*args):
        asyncio.current_task().cancel()
        await asyncio.sleep(h.s(1))

    async def plot():
        seen = Seen()
        queue = new_queue(h, observers=(seen,))
        await queue.start()
        queue.send(envelope_with(place, cancels), *[Envelope(ignored) for _ in range(3)])
        assert await queue.join(timeout=30)
        told = seen.failed if place in ("before_hook", "invoke") else seen.hook_failed
        assert [type(event.error) for event in told] == [asyncio.CancelledError]
        assert queue.stats().runs_succeeded == 3 + (place in ("after_hook", "success_hook"))
        await goes_on(h, queue)

    wait_for(plot())


# What user code swallows


async def swallows(h, span):
    """Sleep *span*, and whatever cancels."""
    now = h._clock_now  # not the loop's time, which uvloop reads once a turn
    ends_at = now() + h.s(span)
    while (left := ends_at - now()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(left)


@pytest.mark.parametrize("then", ["returns", "raises it", "raises another"])
@at_each_place
def test_3_a_coroutine_that_ignores_its_deadline(h, place, then):
    """3: ignores deadline 10x; swallows CancelledError; re-raises it late: its run ends once, for its own cause, and
    its worker goes on."""

    async def ignores(*args):
        h.mark("in")
        await swallows(h, 10)
        h.mark("out")
        if then != "returns":
            raise asyncio.CancelledError if then == "raises it" else KeyError

    async def plot():
        seen = Seen()
        queue = new_queue(h, observers=(seen,), hook_timeout_floor=h.s(1))
        await queue.start()
        queue.send(envelope_with(place, ignores, deadline=h.s(1) if place in ("before_hook", "invoke") else None))
        assert await queue.join(timeout=30)
        (entered, _), (left, _) = h.log
        assert left - entered == h.about(10)
        check_end(queue, seen, place, then)
        await goes_on(h, queue)

    wait_for(plot())


def check_end(queue, seen, place, then):
    """How the run of one that ignores its deadline is told of."""
    stats = queue.stats()
    assert stats.runs_started == 1
    failing = {"returns": DeadlineExceeded, "raises it": DeadlineExceeded, "raises another": KeyError}[then]
    if place == "invoke" and then == "returns":
        assert (stats.succeeded, stats.late, stats.dropped, seen.failed) == (1, 1, 0, [])
    elif place in ("before_hook", "invoke"):
        assert (stats.succeeded, stats.late, stats.dropped) == (0, 0, 1)
        assert [type(event.error) for event in seen.failed] == [failing]
    else:
        assert (stats.succeeded, stats.dropped) == ((0, 1) if place == "failure_hook" else (1, 0))
        assert [type(event.error) for event in seen.hook_failed] == ([] if then == "returns" else [failing])


def test_d29_a_coroutine_that_ignores_everything_is_abandoned(h):
    """D29: stop(timeout=1, grace=0.05) with a handler that swallows the cancellation -> returns within 1.1 s,
    report.abandoned names it; after a restart its key waits for its end, and its late success changes nothing."""
    opened = asyncio.Event()

    async def ignores(ctx, envelope):
        h.mark("in")
        while not opened.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await opened.wait()

    async def plot():
        queue = new_queue(h)
        await queue.start()
        envelope = Envelope(ignores)
        queue.send(envelope)
        await asyncio.sleep(0)
        began = h.now()
        report = await queue.stop(timeout=h.s(1), grace=h.s(0.05))
        assert h.now() - began == h.about(1.05)
        assert (report.abandoned, report.state) == ((envelope,), QueueState.STOPPED)
        await queue.start()
        assert queue.send(envelope) == 1
        await asyncio.sleep(h.s(1))
        assert h.labels() == ["in"]
        opened.set()
        assert await queue.join(timeout=30)
        assert h.labels() == ["in", "in"]
        assert (queue.stats().abandoned_ended, queue.stats().succeeded, queue.stats().abandoned) == (1, 1, 1)

    wait_for(plot())


def test_d29_what_was_delivered_before_an_abandoned_run_keeps_nobody(h):
    """D29: the worker whose run was abandoned had delivered the end of another just before: after a restart, join and
    stop wait for neither."""
    opened = asyncio.Event()

    async def fails(ctx, envelope):
        raise ValueError

    async def ignores(ctx, envelope):
        while not opened.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await opened.wait()

    async def plot():
        queue = new_queue(h, workers=1)
        await queue.start()
        queue.send(Envelope(fails), Envelope(ignores))
        await asyncio.sleep(0)
        assert len((await queue.stop(timeout=h.s(1), grace=0)).abandoned) == 1
        await queue.start()
        queue.send(Envelope(ignored))
        assert await queue.join(timeout=h.s(5))
        assert (await queue.stop(timeout=h.s(5))).timed_out is False
        opened.set()

    wait_for(plot())


# Who is cancelled while it waits


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("call", ["stop", "terminate"])
def test_7_a_stop_survives_the_task_that_awaits_it(h, call, times):
    """7: cancel the task that awaits `stop`, twice too: the stop goes on, and another gets its report."""

    async def slow(ctx, envelope):
        await swallows(h, 5)

    async def plot():
        queue = new_queue(h)
        await queue.start()
        envelope = Envelope(slow)
        queue.send(envelope)
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(getattr(queue, call)()) for _ in range(times)]
        await asyncio.sleep(h.s(1))
        assert queue.state is QueueState.STOPPING
        for task in tasks:
            task.cancel()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert queue.state is QueueState.STOPPING
        first, second = await asyncio.gather(queue.stop(), queue.stop())
        assert first is second is queue.last_report
        assert (first.succeeded, first.kept, first.returned, first.abandoned) == (1, (), (), ())
        assert queue.state is (QueueState.STOPPED if call == "stop" else QueueState.TERMINATED)

    wait_for(plot())


def test_7_a_timed_out_stop_goes_on_without_whoever_asked(h):
    """7: the timeout and the grace of a stop hold though nobody awaits it any more."""
    opened = asyncio.Event()

    async def ignores(ctx, envelope):
        while not opened.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await opened.wait()

    async def plot():
        queue = new_queue(h)
        await queue.start()
        envelope = Envelope(ignores)
        queue.send(envelope)
        await asyncio.sleep(0)
        task = asyncio.create_task(queue.stop(timeout=h.s(2), grace=h.s(1)))
        await asyncio.sleep(h.s(1))
        task.cancel()
        assert queue.state is QueueState.STOPPING
        await asyncio.sleep(h.s(2.01))
        while h.kind == "uvloop" and queue.state is QueueState.STOPPING:
            await asyncio.sleep(0.001)
        assert queue.state is QueueState.STOPPED
        assert queue.last_report.abandoned == (envelope,)
        assert queue.last_report.elapsed / h.unit == h.about(3)
        opened.set()

    wait_for(plot())


def test_7_a_join_survives_the_task_that_awaits_it(h):
    """7: cancel the task that awaits `join`: nothing of it is left, and another join is answered."""

    async def slow(ctx, envelope):
        await asyncio.sleep(h.s(5))

    async def plot():
        queue = new_queue(h)
        await queue.start()
        queue.send(Envelope(slow))
        for _ in range(2):
            task = asyncio.create_task(queue.join())
            await asyncio.sleep(h.s(1))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(h.s(1)):
                await queue.join()
        assert await queue.join(timeout=h.s(1)) is False
        assert await queue.join(timeout=30) is True
        await goes_on(h, queue)

    wait_for(plot())


@pytest.mark.parametrize("turns", range(8))
def test_7_all_or_none_when_send_wait_is_cancelled(h, turns):
    """7: cancel the task that awaits `send_wait`, in any turn of the loop round the one in which room is made: its
    envelopes were all taken in, or none, and the room goes to the next in the row."""

    async def plot():
        queue = new_queue(h, capacity=2)
        ran = []

        async def notes(ctx, envelope):
            ran.append(envelope.payload)

        opened = asyncio.Event()

        async def held(ctx, envelope):
            await opened.wait()

        await queue.start()
        queue.send(Envelope(held), Envelope(ignored))
        first = asyncio.create_task(queue.send_wait(Envelope(notes, payload=1), Envelope(notes, payload=1)))
        second = asyncio.create_task(queue.send_wait(Envelope(notes, payload=2), Envelope(notes, payload=2)))
        await asyncio.sleep(h.s(1))
        opened.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        (outcome,) = await asyncio.gather(first, return_exceptions=True)
        assert await second == 2
        assert await queue.join(timeout=30)
        assert ran.count(1) in ((2,) if outcome == 2 else (0, 2))
        assert ran.count(2) == 2
        await goes_on(h, queue)

    wait_for(plot())


def test_7_a_send_wait_that_is_cancelled_twice_loses_nothing(h):
    """7: cancelled, and again in the same tick: the row is as if it had never stood there."""

    async def plot():
        queue = new_queue(h, capacity=1)
        queue.send(Envelope(ignored))
        tasks = [asyncio.create_task(queue.send_wait(Envelope(ignored))) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3
        with pytest.raises(CapacityExceededError):
            await queue.send_wait(Envelope(ignored), timeout=0)
        await queue.start()
        assert await queue.send_wait(Envelope(ignored)) == 1
        assert await queue.join(timeout=30)
        assert queue.stats().accepted == 2

    wait_for(plot())
