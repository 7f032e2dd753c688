"""Sections D and F on a loop: what a stop gives up on is cancelled, whatever it awaits.

With `h`, a plain handler stands for a coroutine: the cancellation is raised where it waits, and not caught.
"""

from __future__ import annotations

import asyncio

import pytest

from rate_envelope_queue import Envelope, QueueState, StopMode

from .harness import loops_only
from .running import Seen, marks, raises, started

pytestmark = loops_only
HOW = pytest.mark.parametrize("how", ["terminate", "stop(timeout=0)"])


def end(queue, how):
    """Terminate, or stop at once: what was returned, or kept."""
    return queue.terminate().returned if how == "terminate" else queue.stop(timeout=0).kept


def marks_its_end(h, wait):
    """A handler or hook that waits, and marks how that ended."""

    def waits(ctx, *args):
        h.mark("waits")
        try:
            h.mark(wait(ctx))
        except asyncio.CancelledError:
            h.mark(("cancelled", ctx.cancelled))
            raise

    return waits


@pytest.mark.parametrize("periodic", [False, True], ids=["one-off", "periodic"])
@HOW
@pytest.mark.parametrize("place", ["before_hook", "invoke"])
def test_f50_a_coroutine_that_waits_is_cancelled(h, place, how, periodic):
    """F50: terminate(), or stop(timeout=0), while a hook or handler waits on its context -> that run is cancelled, one
    cycle only, the entry returned or kept."""
    functions = {
        "invoke": marks(h, "invoke"),
        "after_hook": marks(h, "after"),
        "success_hook": marks(h, "success"),
        "failure_hook": marks(h, "failure"),
        place: marks_its_end(h, lambda ctx: ctx.wait()),
    }
    seen = Seen()
    queue = started(h, hook_timeout_floor=1000, observers=(seen,))
    envelope = Envelope(**functions, interval=h.s(1) if periodic else None)
    queue.send(envelope)
    h.until(lambda: "waits" in h.labels())
    assert end(queue, how) == (envelope,)
    h.pass_time(3)
    stats = queue.stats()
    assert h.labels() == ["waits", ("cancelled", True)]
    assert (stats.runs_started, stats.runs_cancelled, stats.runs_failed) == (1, 1, 0)
    assert (stats.returned, stats.occupancy) == ((1, 0) if how == "terminate" else (0, 1))
    assert seen.failed == []


@HOW
@pytest.mark.parametrize("place", ["after_hook", "success_hook"])
def test_f50_a_periodic_whose_later_hook_is_cancelled_ends_after_one_cycle(h, place, how):
    """F50: terminate(), or stop(timeout=0), while a hook waits on its context -> one cycle only, the periodic
    returned or kept; its handler had succeeded already, and the hook is reported."""
    seen = Seen()
    queue = started(h, hook_timeout_floor=1000, observers=(seen,))
    hook = {place: marks_its_end(h, lambda ctx: ctx.wait())}
    envelope = Envelope.every(h.s(1), marks(h, "invoke"), **hook)
    queue.send(envelope)
    h.until(lambda: "waits" in h.labels())
    assert end(queue, how) == (envelope,)
    h.pass_time(3)
    assert h.labels() == ["invoke", "waits", ("cancelled", True)]
    assert (queue.stats().runs_started, queue.stats().runs_succeeded) == (1, 1)
    assert [event.hook for event in seen.hook_failed] == [place]


@HOW
def test_f50_a_failure_hook_that_is_cancelled_decides_nothing(h, how):
    """F50: terminate(), or stop(timeout=0), while a failure hook waits on its context -> the hook is cancelled, and the
    run that had failed is dropped as after any failure hook that fails."""
    queue = started(h, hook_timeout_floor=1000)
    queue.send(Envelope.once(raises(ValueError), failure_hook=marks_its_end(h, lambda ctx: ctx.wait())))
    h.until(lambda: "waits" in h.labels())
    assert end(queue, how) == ()
    assert h.labels() == ["waits", ("cancelled", True)]
    assert (queue.stats().runs_failed, queue.stats().dropped) == (1, 1)
    assert "failure_hook failed" in queue.dead_letters()[0].reason


def test_3_wait_says_whether_the_context_ended_unless_it_is_cancelled(h):
    """3: `wait(seconds=None)` lasts as long as it says; the end of the context comes as a cancellation."""
    seconds = iter((0, 1, 2, None))

    def invoke(ctx, envelope):
        for span in seconds:
            h.mark("waits")
            try:
                h.mark(ctx.wait(None if span is None else h.s(span)))
            except asyncio.CancelledError:
                h.mark("cancelled")
                raise

    queue = started(h)
    began = h.now()
    queue.send(Envelope.once(invoke, deadline=h.s(10)))
    assert queue.join(timeout=60)
    log = [(at, label) for at, label in h.log if label != "waits"]
    assert [label for _, label in log] == [False, False, False, "cancelled"]
    assert [at - began for at, _ in log] == [h.about(seconds) for seconds in (0, 1, 3, 10)]


def test_3_check_raises_cancelled_after_the_cancellation(h):
    """3: `check()` raises Cancelled when the queue gave up on the run, which `wait` is told of at once."""
    found = []

    def invoke(ctx, envelope):
        h.mark("in")
        try:
            ctx.wait()
        except asyncio.CancelledError:
            found.append((ctx.done, ctx.cancelled, ctx.stopping))
        ctx.check()

    queue = started(h)
    queue.send(Envelope.once(invoke, deadline=1000))
    h.until(lambda: h.log)
    assert len(queue.terminate().returned) == 1
    assert found == [(True, True, True)]
    assert queue.stats().runs_cancelled == 1


def test_3_a_task_of_a_handler_is_told_by_its_context(h):
    """3: tasks that a coroutine made are not cancelled with it: they learn it from the context."""

    async def beside(ctx):
        h.mark(("task", await ctx.wait(), ctx.cancelled))

    tasks = []

    async def invoke(ctx, envelope):
        tasks.append(asyncio.create_task(beside(ctx)))
        h.mark("in")
        await ctx.wait()

    queue = started(h)
    queue.send(Envelope.once(invoke))
    h.until(lambda: h.log)
    queue.terminate()
    h.until(lambda: len(h.log) == 2)
    assert h.labels() == ["in", ("task", True, True)]


def test_d29_drain_becomes_stop_at_its_timeout_and_cancels(h):
    """D29 (CONTRACT 7): DRAIN at its timeout becomes STOP; what ran is cancelled and kept, as what was ready is."""
    queue = h.queue()
    running = Envelope(marks_its_end(h, lambda ctx: ctx.wait(None)))
    ready = [Envelope(h.handler("never")) for _ in range(2)]
    queue.send(running, *ready)
    queue.start()
    h.until(lambda: queue.stats().running)
    began = h.now()
    report = queue.stop(StopMode.DRAIN, timeout=h.s(1), grace=20)
    assert set(report.kept) == {running, *ready}
    assert (report.succeeded, report.abandoned, report.timed_out) == (0, (), True)
    assert h.labels() == ["waits", ("cancelled", True)]
    assert h.times(("cancelled", True))[0] - began == h.about(1)


def test_d_terminate_cancels_at_once(h):
    """D (CONTRACT 7): terminate with timeout=None cancels what runs, and waits until it has ended."""
    queue = h.queue()

    def takes_its_time(ctx, envelope):
        try:
            ctx.wait(None)
        finally:
            h.work(ctx, 5)

    envelope = Envelope(takes_its_time)
    queue.send(envelope)
    queue.start()
    h.until(lambda: queue.stats().running)
    began = h.now()
    report = queue.terminate()
    assert h.now() - began == h.about(5)
    assert (report.succeeded, report.returned, report.abandoned) == (0, (envelope,), ())
    assert report.state is QueueState.TERMINATED
