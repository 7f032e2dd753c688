"""Section 7 on a loop that ends under the queue: what its runs, waits and warnings come to."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from rate_envelope_queue import AsyncEnvelopeQueue, Envelope, QueueState

from .harness import check_ledger
from .test_asyncio_loops import PATIENCE, end, for_ever, ignored, queue_on


def wall_utc():
    """Some instant."""
    return datetime(2025, 1, 1, tzinfo=UTC)


def test_14_an_abandoned_run_ends_with_its_loop(new_loop):
    """14 and D33: a loop is closed under a run that a stop had abandoned: it has ended then, and its key is free."""
    loop, ran = new_loop(), []

    async def ignores(ctx, envelope):
        ran.append(ctx)
        while len(ran) == 1:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    queue = queue_on(loop)
    queue.send(Envelope(ignores, key="k"))
    loop.run_until_complete(asyncio.sleep(0.001))
    assert len(loop.run_until_complete(queue.stop(timeout=0, grace=0)).abandoned) == 1
    loop.set_exception_handler(lambda loop, trouble: None)  # it is told of tasks that are destroyed
    loop.close()
    other = new_loop()
    other.run_until_complete(queue.start())
    queue.send(Envelope(ignores, key="k"))
    assert other.run_until_complete(queue.join(timeout=PATIENCE))
    assert (queue.stats().succeeded, queue.stats().abandoned_ended) == (1, 1)
    end(other, queue)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("options", [{}, {"deadline": 30}], ids=str)
def test_14_a_run_has_ended_before_it_is_begun_again(new_loop, options, fails, caplog):
    """14 and D33: a coroutine whose loop was closed is ended, and its `finally` has run, before its key runs again; an
    error that is raised there is reported, and the entry is kept all the same."""
    loop, seen = new_loop(), []

    async def waits(ctx, envelope):
        is_first = len(seen) < 2
        seen.append(("in", envelope.payload))
        try:
            if is_first:
                await for_ever(ctx, envelope)
        finally:
            seen.append(("out", envelope.payload))
            if fails and is_first:
                raise KeyError(envelope.payload)

    queue = queue_on(loop)
    queue.send(*[Envelope(waits, payload=number, **options) for number in range(2)])
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.set_exception_handler(lambda loop, trouble: None)  # it is told of tasks that are destroyed
    loop.close()
    other = new_loop()
    with pytest.warns(ResourceWarning, match="entries kept, .*: 2"):
        other.run_until_complete(queue.start())
    assert other.run_until_complete(queue.join(timeout=PATIENCE))
    assert sorted(seen[:2]) == sorted(seen[4::2]) == [("in", 0), ("in", 1)]
    assert sorted(seen[2:4]) == sorted(seen[5::2]) == [("out", 0), ("out", 1)]
    assert queue.stats().succeeded == 2
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2 * fails
    end(other, queue)


def test_14_a_loop_that_is_closed_while_a_stop_has_a_timeout(new_loop, caplog):
    """14: a loop is closed before the timeout of a stop has passed: what ran ended with it, and is kept, however late
    somebody looks; nothing is tried on the closed loop."""
    loop, now = new_loop(), [1000.0]
    queue = AsyncEnvelopeQueue("q", workers=1, clock=SimpleNamespace(now=lambda: now[0], wall_utc=wall_utc))
    running, waiting = Envelope(for_ever), Envelope(ignored)
    queue.send(running, waiting)
    loop.run_until_complete(queue.start())
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.run_until_complete(queue.stop(timeout=10, grace=1, wait=False))
    loop.set_exception_handler(lambda loop, trouble: None)  # it is told of tasks that are destroyed
    loop.close()
    now[0] += 60
    other = new_loop()
    with pytest.warns(ResourceWarning, match="entries kept, .*: 2"):
        report = other.run_until_complete(queue.stop())
    assert (set(report.kept), report.abandoned) == ({running, waiting}, ())
    assert caplog.records == []
    end(other, queue)


@pytest.mark.parametrize("ends", ["cancelled", "closed"])
def test_14_a_plain_function_that_waits_on_its_context_is_told(new_loop, ends):
    """14: a plain function that waits on its context when its loop ends wakes: the queue has given up on it."""
    loop, began, told = new_loop(), threading.Event(), threading.Event()

    def waits(ctx, envelope):
        began.set()
        assert ctx.wait()
        assert ctx.cancelled
        told.set()

    queue = queue_on(loop)
    queue.send(Envelope(waits))
    loop.run_until_complete(asyncio.to_thread(began.wait, PATIENCE))
    if ends == "cancelled":
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.001))
    else:
        loop.set_exception_handler(lambda loop, trouble: None)  # it is told of tasks that are destroyed
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        loop = new_loop()
        loop.run_until_complete(queue.stop())
    assert told.wait(PATIENCE)
    end(loop, queue)


@pytest.mark.parametrize("handler", [for_ever, lambda ctx, envelope: ctx.wait(0.1)], ids=["coroutine", "plain"])
def test_14_the_warning_as_an_error(new_loop, handler):
    """14: where warnings are errors, the first call after the loop was closed raises, and the next goes on."""
    loop, other = new_loop(), new_loop()
    queue = queue_on(loop, workers=1)
    queue.send(Envelope(handler), Envelope(ignored), Envelope(ignored))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.set_exception_handler(lambda loop, trouble: None)
    loop.close()
    with pytest.raises(ResourceWarning):
        other.run_until_complete(queue.start())
    assert (queue.state, queue.stats().running) == (QueueState.STOPPED, 0)
    queue.clear()
    other.run_until_complete(queue.start())
    end(other, queue)


def in_a_group(next):
    """A stamp that calls the handler in a task of its own."""

    async def invoke(ctx, envelope):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(next(ctx, envelope))
        return task.result()

    return invoke


@pytest.mark.parametrize("stamps", [(), (in_a_group,)], ids=["itself", "in a task of a stamp"])
@pytest.mark.parametrize("deadline", [None, 30])
def test_14_a_plain_function_goes_on_after_its_loop(stamps, deadline):
    """14 and D33: a plain function that runs on when its loop ends is abandoned, and its key waits for its end, also
    when a stamp called it in a task of its own."""
    opened, began = threading.Event(), threading.Event()
    now, most = [], []

    def plain(ctx, envelope):
        now.append(1)
        most.append(len(now))
        began.set()
        assert opened.wait(20)
        now.pop()

    queue = AsyncEnvelopeQueue("q", workers=2, stamps=stamps)

    async def ends():
        await queue.start()
        queue.send(Envelope(plain, key="k", deadline=deadline))
        while not began.is_set():
            await asyncio.sleep(0.001)

    async def goes_on():
        await queue.start()
        queue.send(Envelope(plain, key="k", deadline=deadline))
        await asyncio.sleep(0.02)
        opened.set()
        assert await queue.join(timeout=20)
        await queue.stop()

    asyncio.run(ends())
    assert (queue.state, queue.stats().abandoned, len(queue)) == (QueueState.STOPPED, 1, 0)
    asyncio.run(goes_on())
    assert most == [1, 1]
    check_ledger(queue)
