"""Line 70a for submit on a loop: the future is asyncio's own, and belongs to the running loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rate_envelope_queue import Cancelled, Envelope, QueueState, QueueStateError

from .awaiting import new_queue
from .bridge import wait_for
from .harness import loops_only
from .running import raises

pytestmark = loops_only


def value(ctx, envelope):
    return envelope.payload


def test_is_an_asyncio_future_of_the_running_loop(h):
    """70a submit: an asyncio.Future from asyncio; it resolves on its loop, also when something else than the loop
    ended the entry."""

    async def plot():
        queue = new_queue(h)
        future = queue.submit(Envelope(value, payload=1))
        assert isinstance(future, asyncio.Future)
        assert future.get_loop() is asyncio.get_running_loop()
        assert not future.done()
        await queue.start()
        assert await future == 1
        queue.pause()
        future = queue.submit(Envelope(value, key="k"))
        thread = threading.Thread(target=queue.cancel, args=("k",))
        thread.start()
        thread.join()
        with pytest.raises(Cancelled):
            await future

    wait_for(plot())


def test_without_a_loop(h):
    """70a submit: QueueStateError where no loop runs; nothing was sent."""
    queue = new_queue(h)
    raised = []

    def elsewhere():
        try:
            queue.submit(Envelope(value))
        except QueueStateError as error:
            raised.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert raised == ["submit() makes a future of the running event loop: elsewhere, use send()"]
    assert len(queue) == 0


def test_gather_wait_and_as_completed(h):
    """70a submit: gather, wait and as_completed of asyncio take its futures."""

    async def plot():
        queue = new_queue(h)
        await queue.start()
        futures = [queue.submit(Envelope(value, payload=number)) for number in range(5)]
        assert await asyncio.gather(*futures) == [0, 1, 2, 3, 4]
        futures = [queue.submit(Envelope(value, payload=number)) for number in range(5)]
        done, pending = await asyncio.wait(futures)
        assert (done, pending) == (set(futures), set())
        futures = [queue.submit(Envelope(value, payload=number)) for number in range(5)]
        assert [await future for future in asyncio.as_completed(futures)] == [0, 1, 2, 3, 4]

    wait_for(plot())


def test_cancel_while_it_runs(h):
    """70a submit: cancelling the future while the entry runs does not interrupt the run; the result is nobody's."""
    queue, gate = h.queue(), h.gate()

    def invoke(ctx, envelope):
        gate.wait(ctx)
        h.mark("ran to its end")

    queue.start()
    future = queue.submit(Envelope(invoke)).real
    h.until(lambda: gate.waiting)
    assert future.cancel() is True
    assert future.cancelled()
    gate.open()
    assert queue.join(timeout=60)
    assert h.labels() == ["ran to its end"]
    assert (queue.stats().succeeded, queue.stats().returned) == (1, 0)


def test_cancel_of_a_task_that_awaits_it(h):
    """70a submit: the cancellation of a task that awaits the future takes the entry out while it waits."""

    async def plot():
        queue = new_queue(h)

        async def asks():
            await queue.submit(Envelope(value))

        task = asyncio.create_task(asks())
        await asyncio.sleep(0)
        assert len(queue) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (len(queue), queue.stats().returned) == (0, 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(h.s(1)):
                await queue.submit(Envelope(value))
        assert (len(queue), queue.stats().returned) == (0, 2)

    wait_for(plot())


def test_callbacks(h):
    """70a submit: callbacks are called once each by the loop, which is told of one that raises; it harms nothing."""
    queue = h.queue()

    def bad(future):
        h.mark("bad")
        raise ZeroDivisionError

    queue.start()
    future = queue.submit(Envelope(value, payload=1))
    future.add_done_callback(bad)
    future.add_done_callback(lambda future: h.mark(future.result()))
    queue.join()
    assert h.labels() == ["bad", 1]
    assert queue.submit(Envelope(value, payload=2)).result(20) == 2
    (trouble,) = h.troubles
    assert isinstance(trouble["exception"], ZeroDivisionError)
    h.troubles.clear()


def test_s21_stopped_because_a_future_is_done(h):
    """S21: whoever awaits the future is not inside: its stop gets the final report."""

    async def plot():
        queue = new_queue(h)
        future = queue.submit(Envelope(value))
        await queue.start()

        async def stops():
            await future
            return await queue.stop()

        report = await asyncio.create_task(stops())
        assert (report.state, report.initiated_from_handler) == (QueueState.STOPPED, False)

    wait_for(plot())


def test_stop_iteration(h):
    """70a submit: StopIteration would end whoever awaits it: it comes as the cause of a RuntimeError."""

    async def plot():
        queue = new_queue(h)
        await queue.start()
        with pytest.raises(RuntimeError) as caught:
            await queue.submit(Envelope(raises(StopIteration)))
        assert isinstance(caught.value.__cause__, StopIteration)

    wait_for(plot())
