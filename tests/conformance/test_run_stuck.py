"""Contract section 3: runs that are stuck past their deadline are reported."""

from __future__ import annotations

from rate_envelope_queue import Envelope, retry_after

from .harness import blocking_only
from .running import Seen, finish, marks, started


@blocking_only("the stack of a coroutine does not show the greenlets of the suite, see test_asyncio_deadlines")
def test_3_a_stuck_run_is_reported_once_with_its_stack(h):
    """3: a run still going `stuck_after` seconds past its deadline is reported once, with its stack, to the
    observers."""
    gate = h.gate()
    seen = Seen()
    queue = started(h, observers=(seen,), stuck_after=h.s(1))

    def stays_too_long(ctx, envelope):
        h.mark("in")
        gate.wait(ctx)

    envelope = Envelope.once(stays_too_long, deadline=h.s(5))
    queue.send(envelope)
    h.until(lambda: h.log)
    assert seen.stuck == []
    h.until(lambda: seen.stuck)
    assert h.now() - h.times("in")[0] >= 6 - (1e-6 if h.is_virtual else 0.5)
    h.pass_time(5)
    (event,) = seen.stuck
    assert (event.queue, event.envelope, event.attempt) == (queue.name, envelope, 1)
    assert event.overdue / h.unit == h.about(1)
    assert "stays_too_long" in event.stack
    gate.open()
    finish(queue)
    assert len(seen.stuck) == 1
    assert (queue.stats().succeeded, queue.stats().late) == (1, 1)


def test_3_a_run_that_ends_in_time_is_not_stuck(h):
    """3: a late run that ends before `stuck_after` has passed is not reported."""
    seen = Seen()
    queue = started(h, observers=(seen,), stuck_after=h.s(20))
    queue.send(Envelope.once(lambda ctx, envelope: ctx.wait(), deadline=h.s(5)), Envelope.once(marks(h, "next")))
    finish(queue)
    h.pass_time(5)
    assert seen.stuck == []


def test_3_without_a_deadline_nothing_is_stuck(h):
    """3: only a run past its deadline can be stuck."""
    seen = Seen()
    queue = started(h, observers=(seen,), stuck_after=h.s(0.1))
    queue.send(Envelope.once(lambda ctx, envelope: h.work(ctx, 5)))
    finish(queue)
    assert seen.stuck == []


def test_3_each_stuck_run_is_reported(h):
    """3: a retry that is stuck again is reported again, with its own attempt."""
    seen = Seen()
    queue = started(h, observers=(seen,), stuck_after=h.s(1))

    def invoke(ctx, envelope):
        reports = len(seen.stuck)
        while len(seen.stuck) == reports and not h.over.is_set():
            h.work(ctx, 0.1)
        raise ValueError

    queue.send(Envelope.once(invoke, deadline=h.s(5), max_attempts=2, failure_hook=lambda *args: retry_after(h.s(0.1))))
    finish(queue)
    assert [event.attempt for event in seen.stuck] == [1, 2]


def test_3_several_stuck_runs_are_all_reported(h):
    """3: workers that are stuck at the same time are each reported, although none of them is free to tell."""
    seen = Seen()
    gate = h.gate()
    queue = started(h, workers=3, observers=(seen,), stuck_after=h.s(1))
    envelopes = [Envelope.once(lambda ctx, envelope: gate.wait(ctx), deadline=h.s(5)) for _ in "abc"]
    queue.send(*envelopes)
    h.until(lambda: len(seen.stuck) == 3)
    assert {event.envelope for event in seen.stuck} == set(envelopes)
    gate.open()
    finish(queue)


def test_3_stuck_runs_are_not_reported_unless_asked_for(h):
    """3: without `stuck_after` nothing is reported."""
    seen = Seen()
    queue = started(h, observers=(seen,))
    queue.send(Envelope.once(lambda ctx, envelope: h.work(ctx, 12), deadline=h.s(5)))
    finish(queue)
    assert (seen.stuck, queue.stats().late) == ([], 1)


def test_9_an_observer_that_raises_ends_no_watch(h):
    """9: an exception of an observer ends no timer: the run ends, and later work goes on."""

    class Breaks(Seen):
        def on_stuck(self, event):
            super().on_stuck(event)
            raise SystemExit

    seen = Breaks()
    queue = started(h, observers=(seen,), stuck_after=h.s(1))
    queue.send(
        Envelope.once(lambda ctx, envelope: h.work(ctx, 8), deadline=h.s(5)),
        Envelope.once(marks(h, "next")),
    )
    finish(queue)
    queue.send(Envelope.once(marks(h, "later")), delay=h.s(1))
    finish(queue)
    assert h.labels() == ["next", "later"]
    assert len(seen.stuck) == 1
