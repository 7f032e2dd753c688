"""Section E: periodic envelopes, deadlines and hook budgets."""

from __future__ import annotations

import pytest

from rate_envelope_queue import DeadlineExceeded, Envelope

from .harness import cooperative_only
from .running import ample, finish, marks, run, started, widen


def test_e34_an_instant_periodic_runs_at_0_and_2(h):
    """E34: interval 2 s, instant handler, 3 s -> 2 runs (at 0 and 2)."""
    queue = started(h)
    began = h.now()
    queue.send(Envelope.every(h.s(2), marks(h, "run")))
    h.pass_time(3)
    h.until(lambda: len(h.times("run")) >= 2)
    first, second = h.times("run")[:2]
    assert first - began == h.about(0)
    assert second - first == h.about(2)
    assert sum(at - began < 4 for at in h.times("run")) <= 2


def test_e35_the_interval_counts_from_the_end_of_a_slow_run(h):
    """E35: handler runs 3 s, interval 2 s, look at 6 s -> completed 1, started 2."""

    def slow(ctx, envelope):
        h.mark("started")
        h.work(ctx, 3)
        h.mark("completed")

    queue = started(h)
    began = h.now()
    queue.send(Envelope.every(h.s(2), slow))
    h.pass_time(6)
    h.until(lambda: len(h.log) >= 3)
    assert h.labels()[:3] == ["started", "completed", "started"]
    (start, _), (end, _), (again, _) = h.log[:3]
    assert [start - began, end - start, again - end] == [h.about(0), h.about(3), h.about(2)]
    assert sum(at - began < 8 for at, _ in h.log) <= 3


@cooperative_only(see="test_asyncio_deadlines")
def test_e36_a_deadline_ends_the_wait_of_a_handler(h):
    """E36: one-off, deadline 1 s, handler waits on ctx or 2 s -> the 2 s branch never taken."""
    widen(h)

    def invoke(ctx, envelope):
        h.mark("context ended" if ctx.wait(h.s(2)) else "2 s")

    queue = started(h)
    began = h.now()
    queue.send(Envelope.once(invoke, deadline=h.s(1)))
    finish(queue)
    assert h.labels() == ["context ended"]
    assert h.log[0][0] - began == h.about(1)


def test_e37_invoke_does_not_start_after_a_before_hook_overslept(h):
    """E37: deadline 2 s, before hook oversleeps to 4 s (clock.sleep) -> invoke never starts."""
    errors = []
    envelope = Envelope.once(
        marks(h, "invoke"),
        deadline=h.s(2),
        before_hook=lambda ctx, envelope: h.work(ctx, 4),
        after_hook=marks(h, "after"),
        failure_hook=lambda ctx, envelope, error: errors.append(error),
    )
    queue, _ = run(h, envelope)
    assert h.labels() == []
    assert [type(error) for error in errors] == [DeadlineExceeded]
    assert (queue.stats().runs_failed, queue.stats().dropped) == (1, 1)


@cooperative_only(see="test_asyncio_deadlines")
@pytest.mark.parametrize(("deadline", "budget"), [(None, 0.8), (10, 5), (1, 0.8), (0.5, 0.5)])
def test_e38_the_budget_of_a_before_hook(h, deadline, budget):
    """E38: hook budget: no deadline 0.8 s; deadline 10 s -> 5 s; deadline 1 s -> 0.8 s and never past the deadline."""
    if deadline in (0.5, 1):
        widen(h)
    errors = []
    queue = h.queue()
    queue.start()
    began = h.now()
    queue.send(
        Envelope.once(
            marks(h, "invoke"),
            deadline=deadline and h.s(deadline),
            before_hook=lambda ctx, envelope: h.mark(ctx.wait()),
            failure_hook=lambda ctx, envelope, error: errors.append(error),
        )
    )
    finish(queue)
    assert h.labels() == [True]
    assert h.log[0][0] - began == h.about(budget)
    assert [type(error) for error in errors] == [DeadlineExceeded]


@cooperative_only(see="test_asyncio_deadlines")
@pytest.mark.parametrize("hook", ["after_hook", "success_hook"])
@pytest.mark.parametrize(("deadline", "budget"), [(None, 0.8), (10, 5), (2, 1), (1, 0.8)])
def test_e38_the_budget_of_an_after_or_success_hook(h, hook, deadline, budget):
    """E38: hook budget: no deadline 0.8 s; deadline 10 s -> 5 s, of 2 s -> 1 s, of 1 s -> 0.8 s."""
    if deadline in (1, 2):
        widen(h)
    queue = h.queue()
    queue.start()
    options = {hook: lambda ctx, envelope: h.mark(("out", ctx.wait()))}
    queue.send(Envelope.once(marks(h, "in"), deadline=deadline and h.s(deadline), **options))
    finish(queue)
    (invoked, _), (ended, out) = h.log
    assert out == ("out", True)
    assert ended - invoked == h.about(budget)
    assert queue.stats().succeeded == 1


@cooperative_only(see="test_asyncio_deadlines")
@pytest.mark.parametrize("hook", ["after_hook", "success_hook"])
def test_e38_after_and_success_hooks_never_outlive_the_deadline(h, hook):
    """E38: deadline 1 s -> 0.8 s and never past the deadline: 0.3 s are left after a handler that took 0.7 s."""
    widen(h)
    queue = h.queue()
    queue.start()
    began = h.now()
    options = {hook: lambda ctx, envelope: h.mark(ctx.wait())}
    queue.send(Envelope.once(lambda ctx, envelope: h.work(ctx, 0.7), deadline=h.s(1), **options))
    finish(queue)
    assert h.labels() == [True]
    assert h.log[0][0] - began == h.about(1)


@cooperative_only(see="test_asyncio_deadlines")
def test_e38_the_two_settings_of_the_hook_budget(h):
    """E38: hook budget is max(hook_timeout_fraction * deadline, hook_timeout_floor), both as the queue was given
    them."""
    queue = h.queue(hook_timeout_fraction=0.25, hook_timeout_floor=h.s(0.5))
    queue.start()
    for deadline in (8, 1):
        envelope = Envelope.once(
            marks(h, "in"), deadline=h.s(deadline), after_hook=lambda ctx, envelope: h.mark(("out", ctx.wait()))
        )
        queue.send(envelope)
        finish(queue)
    times = [at for at, _ in h.log]
    assert [times[1] - times[0], times[3] - times[2]] == [h.about(2), h.about(0.5)]


@cooperative_only(see="test_asyncio_deadlines")
def test_e39_a_before_hook_that_uses_up_its_budget_costs_one_cycle(h):
    """E39: periodic 1 s, before hook waits for its context in cycle 1 -> ends at 0.8 s, invoke not called; cycle 2
    starts 1 s after that and runs."""

    def before(ctx, envelope):
        h.mark("before")
        if len(h.times("before")) == 1:
            ctx.wait()
            h.mark("ended")

    queue = h.queue()
    queue.start()
    began = h.now()
    queue.send(Envelope.every(h.s(1), marks(h, "invoke"), before_hook=before))
    h.until(lambda: "invoke" in h.labels())
    assert h.labels()[:3] == ["before", "ended", "before"]
    ended = h.times("ended")[0]
    assert ended - began == h.about(0.8)
    assert h.times("before")[1] - ended == h.about(1)


@cooperative_only(see="test_asyncio_deadlines")
def test_e40_a_handler_that_returns_late_has_succeeded(h):
    """E40: thread handler returns late -> success, late counted, after and success hooks run."""
    widen(h)

    def late(ctx, envelope):
        ctx.wait()
        h.work(ctx, 0.5)
        return "late but done"

    queue = started(h)
    future = queue.submit(
        Envelope.once(late, deadline=h.s(1), after_hook=marks(h, "after"), success_hook=marks(h, "success"))
    )
    finish(queue)
    stats = queue.stats()
    assert future.result(timeout=0) == "late but done"
    assert h.labels() == ["after", "success"]
    assert (stats.late, stats.succeeded, stats.runs_succeeded, stats.runs_failed) == (1, 1, 1, 0)


@cooperative_only(see="test_asyncio_deadlines")
def test_e40_the_hooks_after_a_late_success_get_a_fresh_floor(h):
    """E40: after a late success, after and success hooks get a fresh floor."""
    widen(h)

    def late(ctx, envelope):
        ctx.wait()
        h.work(ctx, 0.5)

    def hook(ctx, envelope):
        h.mark((ctx.done, ctx.remaining()))

    run(h, Envelope.once(late, deadline=h.s(1), after_hook=hook, success_hook=hook))
    floor = ample(h, 0.8)
    assert [done for done, _ in h.labels()] == [False, False]
    assert all(0 < left <= floor for _, left in h.labels())
    if h.is_virtual:
        assert [left for _, left in h.labels()] == [pytest.approx(0.8)] * 2


def test_e40_a_success_in_time_is_not_late(h):
    """E40: late counts only what ended after its deadline."""
    queue, _ = run(h, Envelope.once(marks(h, "run"), deadline=ample(h, 1)))
    assert (queue.stats().succeeded, queue.stats().late) == (1, 0)


@cooperative_only(see="test_asyncio_deadlines")
def test_e40_a_late_periodic_goes_on(h):
    """E40: a late run of a periodic is a success, counted as late, and the next one follows."""

    def late(ctx, envelope):
        h.mark("run")
        if len(h.times("run")) == 1:
            ctx.wait()
            h.work(ctx, 0.5)

    queue = started(h)
    queue.send(Envelope.every(h.s(6), late, deadline=h.s(5)))
    h.until(lambda: len(h.times("run")) == 2, timeout=60)
    assert queue.stats().late == 1
    assert queue.stats().runs_failed == 0


def test_e41_the_failure_hook_of_a_timed_out_one_off_has_a_live_context(h):
    """E41: failure hook of a timed-out one-off has a live context."""
    widen(h)

    def too_slow(ctx, envelope):
        ctx.wait()
        ctx.check()

    def failure(ctx, envelope, error):
        h.mark((type(error), ctx.done, ctx.wait(0), ctx.remaining()))
        ctx.check()
        h.mark("live")

    run(h, Envelope.once(too_slow, deadline=h.s(1), failure_hook=failure))
    (error, done, ended, left), live = h.labels()
    assert (error, done, ended, live) == (DeadlineExceeded, False, False, "live")
    assert 0 < left <= ample(h, 0.8)


@cooperative_only(see="test_asyncio_deadlines")
@pytest.mark.parametrize(("deadline", "budget"), [(None, 0.8), (1, 0.8), (10, 5)])
def test_e41_the_failure_hook_has_a_budget_of_its_own(h, deadline, budget):
    """E41: the failure hook has a budget of its own, which starts when the hook starts, whatever the deadline left."""
    if deadline == 1:
        widen(h)

    def fails_late(ctx, envelope):
        h.work(ctx, (deadline or 0) + 0.5)
        h.mark("failed")
        raise ValueError

    queue = h.queue()
    queue.start()
    queue.send(
        Envelope.once(
            fails_late,
            deadline=deadline and h.s(deadline),
            failure_hook=lambda ctx, envelope, error: h.mark(ctx.wait()),
        )
    )
    finish(queue)
    (failed, _), (ended, out) = h.log
    assert out is True
    assert ended - failed == h.about(budget)
