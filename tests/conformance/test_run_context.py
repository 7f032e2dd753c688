"""Contract section 3, rule 1: what the context tells a handler or hook about its run."""

from __future__ import annotations

import contextvars

import pytest

from rate_envelope_queue import Cancelled, Context, DeadlineExceeded, Envelope, retry_now

from .harness import cooperative_only
from .running import ample, finish, marks, raises, run, started, widen


def context_of(h, look, **options):
    """What *look(ctx)* gave inside a handler."""
    found = []
    queue, _ = run(h, Envelope.once(lambda ctx, envelope: found.append(look(ctx)), **options))
    assert queue.stats().succeeded == 1
    return found[0]


def test_3_every_function_gets_a_context_and_the_envelope(h):
    """3: invoke, before, after and success hooks are called as (ctx, envelope), failure hooks as (ctx, envelope,
    error)."""
    calls = []

    def function(*args):
        calls.append(args)

    good = Envelope.once(function, before_hook=function, after_hook=function, success_hook=function)
    bad = Envelope.once(raises(ValueError), failure_hook=function)
    run(h, good, bad)
    assert [len(args) for args in calls] == [2, 2, 2, 2, 3]
    assert all(isinstance(args[0], Context) for args in calls)
    assert [args[1] for args in calls] == [good] * 4 + [bad]
    assert isinstance(calls[4][2], ValueError)


def test_3_the_context_knows_its_queue(h):
    """3: the context carries `queue`."""
    queue = started(h)
    found = []
    queue.send(Envelope.once(lambda ctx, envelope: found.append(ctx.queue)))
    finish(queue)
    assert found == [queue]


def test_3_without_a_deadline(h):
    """3: without a deadline there is none to read, nothing remains to be counted, and nothing is done."""
    look = context_of(h, lambda ctx: (ctx.deadline, ctx.remaining(), ctx.done, ctx.stopping, ctx.attempt, ctx.check()))
    assert look == (None, None, False, False, 1, None)


def test_3_the_deadline_is_an_instant_and_remaining_counts_down_to_it(h):
    """3: the context carries `deadline` and `remaining()`."""

    def look(ctx):
        before = ctx.remaining()
        h.work(ctx, 1)
        return ctx.queue.clock.now(), before, ctx.remaining(), ctx.deadline

    now, before, after, deadline = context_of(h, look, deadline=ample(h, 4))
    assert before - after == pytest.approx(h.s(1)) if h.is_virtual else before - after >= h.s(1) - 1e-6
    assert deadline - now >= after - 1e-6
    assert before <= ample(h, 4)


def test_3_the_deadline_starts_with_the_run_not_with_the_send(h):
    """3: if a deadline is set, it starts now, at the beginning of the run: waiting in the queue costs nothing of it."""
    queue = started(h)
    instants = []

    def first(ctx, envelope):
        h.work(ctx, 15)
        instants.append(ctx.queue.clock.now())

    queue.send(
        Envelope.once(first),
        Envelope.once(lambda ctx, envelope: instants.append(ctx.deadline), deadline=h.s(10)),
    )
    finish(queue)
    ended, deadline = instants
    assert (deadline - ended) / h.unit == h.about(10)


def test_3_each_run_has_a_deadline_of_its_own(h):
    """3: the deadline starts anew with each run of a retried envelope."""
    deadlines = []

    def invoke(ctx, envelope):
        deadlines.append(ctx.deadline)
        h.work(ctx, 0.5)
        if ctx.attempt == 1:
            raise ValueError

    run(h, Envelope.once(invoke, deadline=ample(h, 1), failure_hook=lambda *args: retry_now()))
    assert (deadlines[1] - deadlines[0]) / h.unit == h.about(0.5)


def test_3_a_context_past_its_deadline(h):
    """3: `done` is computed from the clock; past the deadline `remaining()` is 0 and `check()` raises
    DeadlineExceeded."""
    widen(h)

    def look(ctx):
        fresh = ctx.done
        h.work(ctx, 1.5)
        with pytest.raises(DeadlineExceeded):
            ctx.check()
        return fresh, ctx.done, ctx.remaining(), ctx.wait(), ctx.wait(5)

    assert context_of(h, look, deadline=h.s(1)) == (False, True, 0.0, True, True)


@cooperative_only(see="test_asyncio_cancelling")
def test_3_wait_tells_whether_the_context_ended_first(h):
    """3: `wait(seconds=None)` is True when the context ended first, and lasts as long as it says."""

    def invoke(ctx, envelope):
        for seconds in (0, 1, 2, None):
            h.mark(ctx.wait(None if seconds is None else h.s(seconds)))

    queue = started(h)
    began = h.now()
    queue.send(Envelope.once(invoke, deadline=h.s(10)))
    finish(queue)
    assert h.labels() == [False, False, False, True]
    assert [at - began for at, _ in h.log] == [h.about(seconds) for seconds in (0, 1, 3, 10)]


def test_3_stopping_is_true_from_the_moment_a_stop_begins(h):
    """3: `stopping` is True from the moment a stop begins; the context is not done for that."""
    queue = started(h)
    gate = h.gate()
    found = []

    def invoke(ctx, envelope):
        found.append((ctx.stopping, ctx.done))
        gate.wait(ctx)
        found.append((ctx.stopping, ctx.done))

    queue.send(Envelope.once(invoke))
    h.until(lambda: gate.waiting)
    queue.stop(wait=False)
    gate.open()
    queue.stop()
    assert found == [(False, False), (True, False)]


@cooperative_only(see="test_asyncio_cancelling")
def test_3_check_raises_cancelled_when_the_queue_gives_up(h):
    """3: `check()` raises Cancelled when the queue gave up on the run, and `wait` wakes at once."""
    found = []

    def invoke(ctx, envelope):
        h.mark("in")
        found.append(ctx.wait())
        found.append(ctx.done)
        with pytest.raises(Cancelled):
            ctx.check()
        found.append("cancelled")

    queue = started(h)
    queue.send(Envelope.once(invoke, deadline=1000))
    h.until(lambda: h.log)
    queue.terminate()
    assert found == [True, True, "cancelled"]


def test_3_attempt_counts_the_runs_of_a_one_off(h):
    """3: `attempt` is 1 on the first run; hooks see the same number."""
    attempts = []

    def note(ctx, *args):
        attempts.append(ctx.attempt)

    def invoke(ctx, envelope):
        note(ctx)
        if ctx.attempt < 3:
            raise ValueError

    def failure(ctx, envelope, error):
        note(ctx)
        return retry_now()

    run(h, Envelope.once(invoke, before_hook=note, after_hook=note, success_hook=note, failure_hook=failure))
    assert attempts == [1, 1, 1, 2, 2, 2, 3, 3, 3, 3]


def test_3_attempt_of_a_periodic_counts_failures_in_a_row(h):
    """3: for a periodic `ctx.attempt` is 1 + consecutive failures, and `max_attempts` does not apply."""
    attempts = []
    fails = iter([True, True, True, False, True, False])

    def invoke(ctx, envelope):
        attempts.append(ctx.attempt)
        if next(fails, False):
            raise ValueError

    queue = started(h)
    queue.send(Envelope.every(h.s(1), invoke, max_attempts=2))
    h.until(lambda: len(attempts) >= 7)
    assert attempts[:7] == [1, 2, 3, 4, 1, 2, 1]
    assert len(queue.dead_letters()) == 0


GREETING = contextvars.ContextVar("GREETING", default="nobody's")


def test_3_workers_run_in_an_empty_context(h):
    """3: workers run in an empty `contextvars` Context made at start, never the caller's."""
    GREETING.set("the caller's")
    try:
        queue = started(h)
        found = []
        queue.send(
            Envelope.once(
                lambda ctx, envelope: found.append(GREETING.get()),
                before_hook=lambda ctx, envelope: found.append(GREETING.get()),
            )
        )
        finish(queue)
    finally:
        GREETING.set("nobody's")
    assert found == ["nobody's", "nobody's"]


def test_3_capture_context_runs_each_envelope_in_a_copy_of_its_senders(h):
    """3: `capture_context=True` runs each envelope in a copy of its sender's; what it sets stays in the copy."""

    def invoke(ctx, envelope):
        found.append((envelope.payload, GREETING.get()))
        GREETING.set("a job's")

    found = []
    queue = started(h, capture_context=True)
    queue.pause()
    for sender in ("ann", "bob"):
        contextvars.copy_context().run(
            lambda sender=sender: (GREETING.set(sender), queue.send(Envelope.once(invoke, sender)))
        )
    queue.send(Envelope.once(invoke, "plain"))
    queue.resume()
    finish(queue)
    assert found == [("ann", "ann"), ("bob", "bob"), ("plain", "nobody's")]
    assert GREETING.get() == "nobody's"


def test_3_capture_context_covers_the_hooks(h):
    """3: `capture_context=True` runs each envelope, hooks included, in the copy."""

    def note(*args):
        found.append(GREETING.get())

    found = []
    queue = started(h, capture_context=True)
    envelope = Envelope.once(raises(ValueError), before_hook=note, failure_hook=note)
    contextvars.copy_context().run(lambda: (GREETING.set("ann"), queue.send(envelope)))
    finish(queue)
    assert found == ["ann", "ann"]


def test_3_a_context_says_what_it_is(h):
    """3: a context can be shown, and cannot be written to."""

    def look(ctx):
        with pytest.raises(AttributeError):
            ctx.attempt = 7
        return repr(ctx)

    assert "attempt=1" in context_of(h, look)


def test_3_success_hooks_read_the_clock_of_the_queue(h):
    """3: `queue.clock` is the clock that deadlines are measured on."""
    queue = started(h)
    instants = []
    queue.send(
        Envelope.once(
            marks(h, "run"), success_hook=lambda ctx, envelope: instants.append((ctx.deadline, queue.clock.now()))
        )
    )
    finish(queue)
    ((deadline, now),) = instants
    assert 0 <= deadline - now <= ample(h, 0.8) + 1e-6
