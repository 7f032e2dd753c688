"""Section E on a loop: a coroutine is cancelled at its deadline, and each hook at the end of its budget.

With `h`, a plain handler stands for a coroutine: the cancellation is raised where it waits, and not caught.
"""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from rate_envelope_queue import DeadlineExceeded, Envelope

from .awaiting import new_queue
from .bridge import wait_for
from .harness import loops_only
from .running import Seen, ample, finish, marks, run, started, widen

pytestmark = loops_only


def waits_for_its_context(h):
    """A handler or hook that marks how its wait ended, and when."""

    def wait(ctx, *args):
        try:
            h.mark(ctx.wait())
        except asyncio.CancelledError:
            h.mark("cancelled")
            raise

    return wait


def test_e36_a_coroutine_is_cancelled_at_its_deadline(h):
    """E36: one-off, deadline 1 s, handler waits on ctx or 2 s -> the 2 s branch never taken: cancelled at 1 s."""
    widen(h)
    errors = []

    def invoke(ctx, envelope):
        try:
            h.mark(ctx.wait(h.s(2)))
        except asyncio.CancelledError:
            h.mark(("cancelled", ctx.done))
            raise

    queue = started(h)
    began = h.now()
    queue.send(Envelope.once(invoke, deadline=h.s(1), failure_hook=lambda ctx, envelope, error: errors.append(error)))
    finish(queue)
    assert h.labels() == [("cancelled", True)]
    assert h.log[0][0] - began == h.about(1)
    (error,) = errors
    assert type(error) is DeadlineExceeded
    assert type(error.__cause__) is asyncio.CancelledError
    assert (queue.stats().runs_failed, queue.stats().runs_cancelled, queue.stats().dropped) == (1, 0, 1)


@pytest.mark.parametrize("waits", ["sleep", "a future", "a task", "a group", "a shield", "an executor"])
def test_e36_whatever_it_awaits(h, waits):
    """E36: cancelled at 1 s, whatever the coroutine awaits; what it shields goes on."""
    widen(h)

    async def invoke(ctx, envelope):
        h.mark("in")
        try:
            if waits == "sleep":
                await asyncio.sleep(h.s(5))
            elif waits == "a future":
                await asyncio.get_running_loop().create_future()
            elif waits == "a task":
                await asyncio.create_task(ctx.wait(h.s(5)))
            elif waits == "a group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(h.s(5)))
            elif waits == "a shield":
                await asyncio.shield(asyncio.create_task(later()))
            else:
                async with asyncio.timeout(h.s(5)):
                    await asyncio.Event().wait()
        finally:
            h.mark("out")

    async def later():
        await asyncio.sleep(h.s(2))
        h.mark("shielded")

    _, seen = run(h, Envelope.once(invoke, deadline=h.s(1)))
    (entered, _), (left, _) = h.log[:2]
    assert left - entered == h.about(1)
    assert [type(event.error) for event in seen.failed] == [DeadlineExceeded]
    if waits == "a shield":
        h.until(lambda: h.labels() == ["in", "out", "shielded"])


@pytest.mark.parametrize(("deadline", "budget"), [(None, 0.8), (10, 5), (1, 0.8), (0.5, 0.5)])
def test_e38_a_before_hook_is_cancelled_when_its_budget_is_spent(h, deadline, budget):
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
            before_hook=waits_for_its_context(h),
            failure_hook=lambda ctx, envelope, error: errors.append(error),
        )
    )
    finish(queue)
    assert h.labels() == ["cancelled"]
    assert h.log[0][0] - began == h.about(budget)
    assert [type(error) for error in errors] == [DeadlineExceeded]


@pytest.mark.parametrize("hook", ["after_hook", "success_hook"])
@pytest.mark.parametrize(("deadline", "budget"), [(None, 0.8), (10, 5), (2, 1), (1, 0.8)])
def test_e38_an_after_or_success_hook_is_cancelled_when_its_budget_is_spent(h, hook, deadline, budget):
    """E38: hook budget: no deadline 0.8 s; deadline 10 s -> 5 s, of 2 s -> 1 s, of 1 s -> 0.8 s. What the hook was
    cut off in is reported, and the handler has succeeded."""
    if deadline in (1, 2):
        widen(h)
    seen = Seen()
    queue = h.queue(observers=(seen,))
    queue.start()
    queue.send(Envelope.once(marks(h, "in"), deadline=deadline and h.s(deadline), **{hook: waits_for_its_context(h)}))
    finish(queue)
    (invoked, _), (ended, how) = h.log
    assert how == "cancelled"
    assert ended - invoked == h.about(budget)
    assert [(event.hook, type(event.error)) for event in seen.hook_failed] == [(hook, DeadlineExceeded)]
    assert (queue.stats().succeeded, queue.stats().late) == (1, 0)


@pytest.mark.parametrize("hook", ["after_hook", "success_hook"])
def test_e38_after_and_success_hooks_are_cancelled_at_the_deadline(h, hook):
    """E38: deadline 1 s -> 0.8 s and never past the deadline: 0.3 s are left after a handler that took 0.7 s."""
    widen(h)
    queue = h.queue()
    queue.start()
    began = h.now()
    options = {hook: waits_for_its_context(h)}
    queue.send(Envelope.once(lambda ctx, envelope: h.work(ctx, 0.7), deadline=h.s(1), **options))
    finish(queue)
    assert h.labels() == ["cancelled"]
    assert h.log[0][0] - began == h.about(1)


def test_e38_the_two_settings_of_the_hook_budget(h):
    """E38: hook budget is max(hook_timeout_fraction * deadline, hook_timeout_floor), both as the queue was given
    them."""
    queue = h.queue(hook_timeout_fraction=0.25, hook_timeout_floor=h.s(0.5))
    queue.start()
    for deadline in (8, 1):
        queue.send(Envelope.once(marks(h, "in"), deadline=h.s(deadline), after_hook=waits_for_its_context(h)))
        finish(queue)
    times = [at for at, _ in h.log]
    assert h.labels() == ["in", "cancelled"] * 2
    assert [times[1] - times[0], times[3] - times[2]] == [h.about(2), h.about(0.5)]


def test_e39_a_before_hook_that_is_cut_off_costs_one_cycle(h):
    """E39: periodic 1 s, before hook waits for its context in cycle 1 -> ends at 0.8 s, invoke not called; cycle 2
    starts 1 s after that and runs."""
    waits = waits_for_its_context(h)

    def before(ctx, envelope):
        h.mark("before")
        if len(h.times("before")) == 1:
            waits(ctx)

    queue = h.queue()
    queue.start()
    began = h.now()
    queue.send(Envelope.every(h.s(1), marks(h, "invoke"), before_hook=before))
    h.until(lambda: "invoke" in h.labels())
    assert h.labels()[:3] == ["before", "cancelled", "before"]
    ended = h.times("cancelled")[0]
    assert ended - began == h.about(0.8)
    assert h.times("before")[1] - ended == h.about(1)


def test_e40_a_coroutine_that_swallows_the_cancellation_has_succeeded_late(h):
    """E40: the handler returns late, the cancellation swallowed -> success, late counted, after and success hooks run
    with a fresh floor."""
    widen(h)

    async def swallows(ctx, envelope):
        try:
            await asyncio.sleep(h.s(5))
        except asyncio.CancelledError:
            h.mark("told")
        await asyncio.sleep(h.s(0.5))
        return "late but done"

    def hook(ctx, envelope):
        h.mark((ctx.done, 0 < ctx.remaining() <= ample(h, 0.8)))

    queue = started(h)
    future = queue.submit(Envelope.once(swallows, deadline=h.s(1), after_hook=hook, success_hook=hook))
    finish(queue)
    stats = queue.stats()
    assert future.result(timeout=0) == "late but done"
    assert h.labels() == ["told", (False, True), (False, True)]
    assert (stats.late, stats.succeeded, stats.runs_succeeded, stats.runs_failed) == (1, 1, 1, 0)


@pytest.mark.parametrize(("deadline", "budget"), [(None, 0.8), (1, 0.8), (10, 5)])
def test_e41_the_failure_hook_is_cancelled_when_its_own_budget_is_spent(h, deadline, budget):
    """E41: the failure hook of a timed-out one-off has a live context, and is cut off at the end of that: dropped, and
    the dead letter says so."""
    if deadline == 1:
        widen(h)

    def fails_late(ctx, envelope):
        h.work(ctx, (deadline or 0) + 0.5)
        h.mark("failed")
        raise ValueError

    queue = h.queue()
    queue.start()
    options = {"deadline": deadline and h.s(deadline), "failure_hook": waits_for_its_context(h)}
    queue.send(Envelope.once(fails_late, **options))
    finish(queue)
    (failed, _), (ended, how) = h.log
    assert how == "cancelled"
    assert ended - failed == h.about(budget)
    (letter,) = queue.dead_letters()
    assert "failure_hook failed: DeadlineExceeded" in letter.reason


def test_3_a_periodic_that_is_cut_off_waits_for_its_next_time(h):
    """3: deadline exceeded by a periodic: it waits for its next time, which counts from the cancellation."""
    waits = waits_for_its_context(h)

    def invoke(ctx, envelope):
        h.mark("run")
        waits(ctx)

    queue = started(h)
    queue.send(Envelope.every(h.s(5), invoke, deadline=h.s(5)))
    h.until(lambda: len(h.times("run")) == 2, timeout=60)
    assert h.labels()[:3] == ["run", "cancelled", "run"]
    assert h.times("run")[1] - h.times("cancelled")[0] == h.about(5)


def test_3_the_users_own_answer_to_the_cancellation_is_the_failure(h):
    """3: an error raised in answer to the cancellation is a failure for that error, not for the deadline."""
    widen(h)

    def answers(ctx, envelope):
        try:
            ctx.wait()
        except asyncio.CancelledError:
            h.work(ctx, 0.5)
            raise KeyError("mine") from None

    _, seen = run(h, Envelope.once(answers, deadline=h.s(1)))
    assert [type(event.error) for event in seen.failed] == [KeyError]


def test_3_a_stuck_coroutine_is_reported_once_with_where_it_waits(h):
    """3: a run still going `stuck_after` seconds past its deadline is reported once, with its stack: every coroutine
    that awaits another."""
    seen = Seen()
    queue = started(h, observers=(seen,), stuck_after=h.s(1))
    opened = asyncio.Event()

    async def ignores_everything():
        while not opened.is_set():
            try:
                await opened.wait()
            except asyncio.CancelledError:
                pass

    async def stays_too_long(ctx, envelope):
        await ignores_everything()

    envelope = Envelope.once(stays_too_long, deadline=h.s(1))
    queue.send(envelope)
    h.until(lambda: seen.stuck)
    h.pass_time(5)
    (event,) = seen.stuck
    assert (event.queue, event.envelope, event.attempt) == (queue.name, envelope, 1)
    assert event.overdue / h.unit == h.about(1)
    assert "stays_too_long" in event.stack
    assert "await opened.wait()" in event.stack
    opened.set()
    finish(queue)
    assert len(seen.stuck) == 1
    assert (queue.stats().succeeded, queue.stats().late) == (1, 1)


@pytest.mark.parametrize("hook", ["after_hook", "success_hook"])
def test_e_a_hook_after_a_stray_cancellation_keeps_its_limit(h, hook):
    """E: a cancellation from elsewhere, which the handler gets over, takes nothing from the deadline of the run: a hook
    that goes on past it is cancelled at it."""
    widen(h)

    async def invoke(ctx, envelope):
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            h.mark("got over it")

    queue, seen = run(h, Envelope.once(invoke, deadline=h.s(0.5), **{hook: waits_for_its_context(h)}))
    assert h.labels() == ["got over it", "cancelled"]
    assert [type(event.error) for event in seen.hook_failed] == [DeadlineExceeded]
    assert (queue.stats().succeeded, h.times("cancelled")[0]) == (1, h.about(0.5))


@pytest.mark.parametrize("captures", [False, True])
def test_o99_what_was_cut_off_is_freed(h, captures):
    """O99: an envelope whose run was cancelled at its deadline is freed after the outcome, without the collector."""

    async def sleeps(ctx, envelope):
        await asyncio.sleep(h.s(10))

    async def plot():
        queue = new_queue(h, capture_context=captures, dead_letter_limit=0)
        await queue.start()
        envelope = Envelope(sleeps, deadline=h.s(1))
        ref = weakref.ref(envelope)
        queue.send(envelope)
        del envelope
        assert await queue.join(timeout=30)
        await asyncio.sleep(h.s(0.1))
        assert (queue.stats().dropped, ref()) == (1, None)

    gc.collect()
    gc.disable()
    try:
        wait_for(plot())
    finally:
        gc.enable()
