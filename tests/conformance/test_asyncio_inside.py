"""Section 7 on a loop: calls from inside a run, by the coroutine itself and by tasks that it made."""

from __future__ import annotations

import asyncio

import pytest

from rate_envelope_queue import Envelope, QueueState, QueueStateError, StopMode, retry_now

from .awaiting import PLACES, envelope_with, goes_on, ignored, new_queue
from .bridge import wait_for
from .harness import check_ledger, loops_only

pytestmark = loops_only


async def sends(queue, envelope):
    assert queue.send(Envelope(ignored)) == 1


async def sends_the_same(queue, envelope):
    assert queue.send(envelope) == 0


async def waits_for_room(queue, envelope):
    assert await queue.send_wait(Envelope(ignored)) == 1


async def starts(queue, envelope):
    await queue.start()


async def drains(queue, envelope):
    report = await queue.stop(StopMode.DRAIN, wait=True)
    assert (report.state, report.initiated_from_handler) == (QueueState.STOPPING, True)


async def stops(queue, envelope):
    report = await queue.stop(StopMode.STOP, wait=True, timeout=30)
    assert (report.state, report.initiated_from_handler) == (QueueState.STOPPING, True)


async def terminates(queue, envelope):
    report = await queue.terminate(wait=True)
    assert (report.state, report.initiated_from_handler) == (QueueState.STOPPING, True)


async def joins(queue, envelope):
    with pytest.raises(QueueStateError):
        await queue.join()


async def looks(queue, envelope):
    assert queue.stats().running == 1
    assert queue.snapshot()[0].envelope is envelope


CALLS = [sends, sends_the_same, waits_for_room, starts, drains, stops, terminates, joins, looks]


@pytest.mark.parametrize("in_a_task", [False, True], ids=["itself", "in a task of its own"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("place", [*PLACES, "stamp"])
def test_7_called_from_inside(h, place, call, in_a_task):
    """7: send, the same again, stop in each mode, start, terminate, join and stats from each hook and stamp, and from a
    task that one of them made: no deadlock, and whoever would wait for itself is told."""
    calls = []

    async def plot():
        queue = new_queue(h)

        async def called(envelope):
            calls.append(call)
            await call(queue, envelope)
            calls.append("came back")

        async def inside(ctx, envelope, *error):
            if not calls:
                await (asyncio.create_task(called(envelope)) if in_a_task else called(envelope))

        def stamp(next):
            async def invoke(ctx, envelope):
                await inside(ctx, envelope)
                return await next(ctx, envelope)

            return invoke

        envelope = Envelope(ignored, stamps=[stamp]) if place == "stamp" else envelope_with(place, inside)
        await queue.start()
        queue.send(envelope)
        while queue.stats().running or not calls:
            await asyncio.sleep(h.s(0.01))
        assert calls == [call, "came back"]
        report = await queue.stop(timeout=30)
        assert report.state is (QueueState.TERMINATED if call is terminates else QueueState.STOPPED)
        assert report.abandoned == ()
        check_ledger(queue)

    wait_for(plot())


@pytest.mark.parametrize("call", ["send", "stats", "cancel", "pause", "resize"])
def test_7_plain_calls_while_the_stamps_are_folded(h, call):
    """7: a stamp that is being folded may use the queue as it likes."""

    async def plot():
        queue = new_queue(h)
        other = Envelope(ignored)

        def stamp(next):
            answers = {
                "send": lambda: queue.send(other),
                "stats": lambda: queue.stats(),
                "cancel": lambda: queue.cancel(other),
                "pause": lambda: (queue.pause(), queue.resume()),
                "resize": lambda: queue.resize(2),
            }
            h.mark(call)
            answers[call]()
            return next

        await queue.start()
        assert await queue.submit(Envelope(ignored, stamps=[stamp])) is None
        assert await queue.join(timeout=30)
        assert h.labels() == [call]
        await goes_on(h, queue)

    wait_for(plot())


def test_7_a_retry_that_its_hook_decides_while_it_stops_the_queue(h):
    """7 and G: the failure hook drains the queue and asks for a retry at once: the retry runs before the stop ends."""

    async def plot():
        queue = new_queue(h)

        async def fails_once(ctx, envelope):
            h.mark(ctx.attempt)
            if ctx.attempt == 1:
                raise ValueError

        async def failure(ctx, envelope, error):
            await queue.stop(StopMode.DRAIN)
            return retry_now()

        await queue.start()
        queue.send(Envelope(fails_once, failure_hook=failure))
        while not h.log:
            await asyncio.sleep(0)
        report = await queue.stop()
        assert h.labels() == [1, 2]
        assert (report.succeeded, report.kept) == (1, ())

    wait_for(plot())


@pytest.mark.parametrize("stop", ["terminate", "stop"])
def test_7_an_observer_gives_up_on_what_its_worker_was_about_to_run(h, stop):
    """7: a stop that cancels, begun where the end of one run is told of, as an eager task does: the run that the worker
    had taken next never begins, and the stop ends."""

    class Alarm:
        def on_dropped(self, event):
            options = {"timeout": 0, "grace": 30} if stop == "stop" else {}
            with pytest.raises(StopIteration):  # it does not suspend
                getattr(queue, stop)(wait=False, **options).send(None)

    async def fails(ctx, envelope):
        raise ValueError

    async def for_ever(ctx, envelope):
        await asyncio.Event().wait()

    async def plot():
        await queue.start()
        after = Envelope(for_ever)
        queue.send(Envelope(fails), after)
        while queue.state is QueueState.RUNNING:
            await asyncio.sleep(0)
        report = await asyncio.wait_for(getattr(queue, stop)(), h.s(5))
        assert (report.abandoned, report.returned or report.kept) == ((), (after,))
        check_ledger(queue)

    queue = new_queue(h, workers=1, observers=(Alarm(),))
    wait_for(plot())


def test_7_run_would_wait_for_itself(h):
    """7: `run` from inside a handler, or while another `run` goes on, raises: it would wait for itself, or be told of
    nothing. The `run` that goes on is not disturbed."""

    async def plot():
        queue = new_queue(h)

        async def runs(ctx, envelope):
            with pytest.raises(QueueStateError, match="inside a handler"):
                await queue.run()

        future = queue.submit(Envelope(runs))
        running = asyncio.create_task(queue.run())
        await future
        with pytest.raises(QueueStateError, match="is running already"):
            await queue.run()
        assert queue.state is QueueState.RUNNING
        await queue.stop()
        assert (await asyncio.wait_for(running, 30)).state is QueueState.STOPPED
        assert queue.stats().succeeded == 1

    wait_for(plot())
