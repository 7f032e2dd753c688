"""Contract section 3: schedules, late runs and stuck runs."""

from __future__ import annotations

import pytest

from rate_envelope_queue import DeadlineExceeded, Envelope, retry_now
from rate_envelope_queue.schedules import cron, every, fixed_rate

from .harness import cooperative_only, virtual_only
from .running import ample, finish, gaps, marks, run, started, widen


def test_3_the_interval_counts_from_the_end_of_the_run_hooks_included(h):
    """3: interval is a fixed delay: it counts from the end of the run, hooks included. The first run is at once."""

    def success(ctx, envelope):
        h.work(ctx, 0.5)
        h.mark("end")

    queue = started(h)
    began = h.now()
    queue.send(Envelope.every(h.s(2), marks(h, "start"), success_hook=success))
    h.until(lambda: len(h.log) >= 3)
    assert h.labels()[:3] == ["start", "end", "start"]
    assert h.log[0][0] - began == h.about(0)
    assert gaps([at for at, _ in h.log[1:3]]) == [h.about(2)]


def test_3_a_failed_run_of_a_periodic_counts_its_interval_alike(h):
    """3: any exception of a periodic: it waits for its next time, which counts from the end of the run."""

    def invoke(ctx, envelope):
        h.mark("start")
        h.work(ctx, 1)
        h.mark("end")
        raise ValueError

    queue = started(h)
    queue.send(Envelope.every(h.s(2), invoke))
    h.until(lambda: len(h.log) >= 3)
    assert gaps([at for at, _ in h.log[:3]]) == [h.about(1), h.about(2)]


def test_3_schedule_every_is_interval(h):
    """3: `schedule=every(...)` is the fixed delay of `interval`."""
    queue = started(h)
    queue.send(Envelope(marks(h, "run"), schedule=every(h.s(2))))
    h.until(lambda: len(h.log) >= 3)
    assert gaps(h.times("run")[:3]) == [h.about(2), h.about(2)]


def test_3_jitter_makes_later_never_earlier(h):
    """3: each schedule takes `jitter=`: a run starts up to that much later, never earlier."""
    queue = started(h)
    queue.send(Envelope(marks(h, "run"), schedule=every(h.s(2), jitter=h.s(1))))
    h.until(lambda: len(h.log) >= 6)
    slack = 1e-6 if h.is_virtual else 10
    assert all(2 - 1e-6 <= gap <= 3 + slack for gap in gaps(h.times("run")[:6]))
    if h.is_virtual:
        assert len({round(gap, 6) for gap in gaps(h.times("run"))}) > 1


def test_3_fixed_rate_keeps_its_grid(h):
    """3: `fixed_rate(seconds)`: the next run counts from the grid, not from the end of the run."""
    queue = started(h)
    began = h.now()
    queue.send(Envelope(h.handler("run", 1), schedule=fixed_rate(h.s(4))))
    h.until(lambda: len(h.log) >= 3)
    times = h.times("run")[:3]
    if h.is_virtual:
        assert times == [pytest.approx(0), pytest.approx(4), pytest.approx(8)]
    assert times[2] - began == h.about(8)


@virtual_only
def test_3_fixed_rate_catches_up_once(h):
    """3: after a pause of the machine there is one catch-up run, never a burst, and then the grid goes on."""

    def invoke(ctx, envelope):
        h.mark("run")
        if len(h.log) == 2:
            h.work(ctx, 3.5)

    queue = started(h)
    queue.send(Envelope(invoke, schedule=fixed_rate(1)))
    h.pass_time(7.5)
    assert [at for at, _ in h.log] == [pytest.approx(at) for at in (0, 1, 4.5, 5, 6, 7)]


@virtual_only
def test_3_a_periodic_catches_up_once_after_a_stop(h):
    """3: after a time in which the queue was stopped, one catch-up run and not one per period missed."""
    queue = started(h)
    queue.send(Envelope.every(1, marks(h, "run")), Envelope(marks(h, "rate"), schedule=fixed_rate(1)))
    h.pass_time(0.5)
    queue.stop()
    h.pass_time(10)
    queue.start()
    h.pass_time(0.4)
    assert (h.times("run"), h.times("rate")) == ([0, pytest.approx(10.5)], [0, pytest.approx(10.5)])


@virtual_only
def test_3_cron_runs_first_at_its_next_time(h):
    """3: `cron("...")`: the first run is at its next time, not at once."""
    queue = started(h)
    walls = []
    queue.send(Envelope(lambda ctx, envelope: walls.append(queue.clock.wall_utc()), schedule=cron("*/5 * * * *")))
    sent_at = queue.clock.wall_utc()
    h.pass_time(601)
    assert len(walls) == 2
    assert all(wall.minute % 5 == 0 and (wall.second, wall.microsecond // 1000) == (0, 0) for wall in walls)
    assert sent_at < walls[0] < walls[1]


class Erratic:
    """A schedule of the user's: first at once, then after the delays given; an exception among them is raised."""

    jitter = 0.0
    period = None

    def __init__(self, *answers):
        self.answers = list(answers)

    def first(self, *, now, wall_utc):
        return now

    def next(self, *, now, **times):
        answer = self.answers.pop(0) if self.answers else 1000
        if isinstance(answer, BaseException):
            raise answer
        return now + answer


def test_3_a_schedule_of_the_users_own(h):
    """3: `schedule=` takes any schedule; it decides after each run."""
    queue = started(h)
    queue.send(Envelope(marks(h, "run"), schedule=Erratic(h.s(1), h.s(3), h.s(2))))
    h.until(lambda: len(h.log) >= 4)
    assert gaps(h.times("run")) == [h.about(1), h.about(3), h.about(2)]


def test_3_strict_deadline_makes_a_late_return_a_failure(h):
    """3: `strict_deadline=True` makes a late return a failure: failure hook decides; without one: drop."""
    widen(h)
    got = []

    def late(ctx, envelope):
        ctx.wait()
        h.work(ctx, 0.5)
        return "late"

    def failure(ctx, envelope, error):
        got.append((type(error), ctx.done))

    queue, seen = run(
        h,
        Envelope.once(late, deadline=h.s(1), success_hook=marks(h, "success"), after_hook=marks(h, "after")),
        Envelope.once(late, deadline=h.s(1), failure_hook=failure),
        strict_deadline=True,
    )
    assert h.labels() == []
    assert got == [(DeadlineExceeded, False)]
    assert [type(event.error) for event in seen.failed] == [DeadlineExceeded] * 2
    assert (queue.stats().dropped, queue.stats().runs_failed, queue.stats().succeeded) == (2, 2, 0)


def test_3_strict_deadline_leaves_what_is_in_time_alone(h):
    """3: with `strict_deadline=True` a run in time succeeds, and one without a deadline is never late."""
    queue, _ = run(
        h,
        Envelope.once(marks(h, "a"), deadline=ample(h, 1)),
        Envelope.once(lambda ctx, envelope: h.work(ctx, 2)),
        strict_deadline=True,
    )
    assert (queue.stats().succeeded, queue.stats().late) == (2, 0)


@cooperative_only(see="test_asyncio_deadlines")
def test_3_the_users_own_error_after_the_deadline_is_the_failure(h):
    """3: an error raised after the deadline is a failure for that error, not for the deadline."""
    widen(h)

    def late(ctx, envelope):
        ctx.wait()
        h.work(ctx, 0.5)
        raise KeyError("mine")

    _, seen = run(h, Envelope.once(late, deadline=h.s(1)))
    assert [type(event.error) for event in seen.failed] == [KeyError]


def test_3_no_invoke_starts_after_the_deadline(h):
    """3: no before hook or invoke starts after the deadline: a retry is a new run with a new deadline."""

    def before(ctx, envelope):
        h.mark("before")
        if ctx.attempt == 1:
            h.work(ctx, 12)

    queue = started(h, hook_timeout_floor=1000)
    queue.send(
        Envelope.once(marks(h, "invoke"), deadline=h.s(10), before_hook=before, failure_hook=lambda *args: retry_now())
    )
    finish(queue)
    assert h.labels() == ["before", "before", "invoke"]
