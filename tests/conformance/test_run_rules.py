"""Contract section 3: the hooks of a run, and the table of what follows it."""

from __future__ import annotations

import pytest

from rate_envelope_queue import (
    DeadlineExceeded,
    Envelope,
    RetryEnvelope,
    StopEnvelope,
    retry_now,
)

from .harness import cooperative_only
from .running import fails_times, finish, marks, marks_and_raises, raises, run, run_once, started, widen


def test_3_the_order_of_one_run(h):
    """3: before hook, invoke, after hook, success hook, in this order, one after the other."""
    functions = {"before_hook": "before", "invoke": "invoke", "after_hook": "after", "success_hook": "success"}

    def slow(label):
        def function(ctx, envelope):
            h.mark(f"{label} in")
            h.work(ctx, 0.1)
            h.mark(f"{label} out")

        return function

    run(h, Envelope.once(**{name: slow(label) for name, label in functions.items()}))
    assert h.labels() == [f"{label} {way}" for label in functions.values() for way in ("in", "out")]


def test_3_what_hooks_return_is_ignored(h):
    """3: only the failure hook's answer matters; before, after and success hooks may return anything."""
    says = lambda ctx, envelope: retry_now()  # noqa: E731
    queue, seen = run(h, Envelope.once(marks(h, "run"), before_hook=says, after_hook=says, success_hook=says))
    assert (h.labels(), queue.stats().succeeded, seen.hook_failed) == (["run"], 1, [])


def test_3_an_exception_of_a_before_hook_is_the_failure(h):
    """3: before hook: an exception ends the run as a failure, and the failure hook gets that very exception."""
    error, got = ValueError("not today"), []

    def before(ctx, envelope):
        raise error

    queue, seen = run(
        h,
        Envelope.once(marks(h, "run"), before_hook=before, failure_hook=lambda ctx, envelope, error: got.append(error)),
    )
    assert got == [error]
    assert [event.error for event in seen.failed] == [error]
    assert (h.labels(), queue.stats().dropped) == ([], 1)


def test_3_a_before_hook_that_always_outlives_the_floor_fails_every_run(h):
    """3: a before hook without a deadline that always takes longer than the floor fails every run
    (DeadlineExceeded)."""
    got = []

    def failure(ctx, envelope, error):
        got.append(type(error))
        return retry_now()

    queue = h.queue()
    queue.start()
    queue.send(
        Envelope.once(
            marks(h, "run"), before_hook=lambda ctx, envelope: h.work(ctx, 1), failure_hook=failure, max_attempts=3
        )
    )
    finish(queue)
    assert got == [DeadlineExceeded] * 3
    assert (h.labels(), queue.stats().runs_failed) == ([], 3)


@pytest.mark.parametrize("stop", [StopEnvelope, lambda: ExceptionGroup("all", [StopEnvelope()])], ids=["bare", "group"])
@pytest.mark.parametrize("periodic", [False, True], ids=["one-off", "periodic"])
def test_3_stop_envelope_from_an_after_hook(h, periodic, stop):
    """3: after hook: StopEnvelope ends the entry as stopped and skips the success hook."""
    envelope = Envelope(
        marks(h, "run"),
        interval=h.s(1) if periodic else None,
        after_hook=raises(stop),
        success_hook=marks(h, "success"),
    )
    queue, seen, report = run_once(h, envelope)
    assert h.labels() == ["run"]
    assert (queue.stats().stopped, report.kept, seen.hook_failed) == (1, (), [])


def test_3_stop_envelope_twice_is_stopped_once(h):
    """3: StopEnvelope from invoke and again from the after hook: stopped, with nothing to report."""
    queue, seen, _ = run_once(h, Envelope.once(raises(StopEnvelope), after_hook=raises(StopEnvelope)))
    assert (queue.stats().stopped, queue.stats().accepted, seen.hook_failed) == (1, 1, [])


@pytest.mark.parametrize("error", [StopEnvelope, RetryEnvelope, ValueError, SystemExit])
def test_3_errors_of_a_success_hook_are_reported_and_ignored(h, error):
    """3: StopEnvelope or RetryEnvelope from a success hook are reported and ignored, like any other exception."""
    queue, seen = run(h, Envelope.once(marks(h, "run"), success_hook=raises(error)))
    assert (h.labels(), queue.stats().succeeded, seen.failed) == (["run"], 1, [])
    assert [(event.hook, type(event.error)) for event in seen.hook_failed] == [("success_hook", error)]


@pytest.mark.parametrize("error", [StopEnvelope, RetryEnvelope, ValueError, SystemExit])
def test_3_errors_of_a_failure_hook_are_reported_and_mean_drop(h, error):
    """3: StopEnvelope or RetryEnvelope from a failure hook are reported and ignored, like any other exception: with no
    decision the entry is dropped, for the error of the run."""
    queue, seen = run(h, Envelope.once(marks_and_raises(h, "run", KeyError), failure_hook=raises(error)))
    (letter,) = queue.dead_letters()
    assert (h.labels(), queue.stats().dropped, queue.stats().stopped) == (["run"], 1, 0)
    assert [(event.hook, type(event.error)) for event in seen.hook_failed] == [("failure_hook", error)]
    assert [type(event.error) for event in seen.failed] == [KeyError]
    assert letter.error == "KeyError"


@pytest.mark.parametrize("error", [RetryEnvelope, ValueError, SystemExit])
def test_3_errors_of_an_after_hook_are_reported_and_ignored(h, error):
    """3: RetryEnvelope from an after hook is reported and ignored, like any exception but StopEnvelope."""
    queue, seen = run(h, Envelope.once(marks(h, "run"), after_hook=raises(error), success_hook=marks(h, "success")))
    assert (h.labels(), queue.stats().succeeded) == (["run", "success"], 1)
    assert [(event.hook, type(event.error)) for event in seen.hook_failed] == [("after_hook", error)]


def test_3_the_failure_hook_is_for_one_offs(h):
    """3: failure hook after a failure of a one-off; a periodic waits for its next time."""
    queue, _, report = run_once(
        h,
        Envelope.every(1000, marks_and_raises(h, "run", ValueError), failure_hook=marks(h, "failure")),
    )
    assert h.labels() == ["run"]
    assert (len(report.kept), queue.stats().runs_failed, queue.stats().delayed) == (1, 1, 1)


def test_3_without_a_failure_hook_an_error_means_drop(h):
    """3: any other exception, of any class: failure hook decides; without one: drop."""
    queue, _ = run(h, Envelope.once(marks_and_raises(h, "run", ValueError)))
    assert (h.labels(), queue.stats().dropped) == (["run"], 1)


@pytest.mark.parametrize("decides", [False, True], ids=["without a hook", "with a hook"])
def test_3_deadline_exceeded_is_a_failure(h, decides):
    """3: deadline exceeded: a failure: failure hook decides; without one: drop."""
    widen(h)

    def invoke(ctx, envelope):
        h.mark("run")
        if ctx.attempt == 1:
            ctx.wait()
            ctx.check()

    hook = {"failure_hook": lambda *args: retry_now()} if decides else {}
    queue, seen = run(h, Envelope.once(invoke, deadline=h.s(1), **hook))
    assert [type(event.error) for event in seen.failed] == [DeadlineExceeded]
    assert (queue.stats().succeeded, queue.stats().dropped) == ((1, 0) if decides else (0, 1))
    assert queue.stats().runs_cancelled == 0


@cooperative_only(see="test_asyncio_deadlines")
def test_3_a_periodic_past_its_deadline_waits_for_its_next_time(h):
    """3: deadline exceeded by a periodic: it waits for its next time."""

    def invoke(ctx, envelope):
        h.mark("run")
        ctx.wait()
        h.mark("woke")
        ctx.check()

    queue = started(h)
    queue.send(Envelope.every(h.s(5), invoke, deadline=h.s(5)))
    h.until(lambda: len(h.times("run")) == 2, timeout=60)
    assert h.times("run")[1] - h.times("woke")[0] == h.about(5)


@pytest.mark.parametrize("after", [None, 2])
def test_3_retry_envelope_on_a_periodic_waits_for_its_next_time(h, after):
    """3: RetryEnvelope of a periodic: it waits for its next time."""

    def invoke(ctx, envelope):
        h.mark("run")
        raise RetryEnvelope(after)

    queue = started(h)
    queue.send(Envelope.every(h.s(3), invoke))
    h.until(lambda: len(h.times("run")) >= 2)
    first, second = h.times("run")[:2]
    assert second - first == h.about(3)
    assert queue.stats().runs_failed >= 1


def test_3_retry_envelope_asks_no_failure_hook(h):
    """3: RetryEnvelope: retried after that time; no failure hook. Such a run counts as failed."""

    def invoke(ctx, envelope):
        h.mark("run")
        if ctx.attempt < 3:
            raise RetryEnvelope(after=h.s(2))

    queue, seen = run(h, Envelope.once(invoke, failure_hook=marks(h, "failure")))
    times = h.times("run")
    assert h.labels() == ["run"] * 3
    assert [times[1] - times[0], times[2] - times[1]] == [h.about(2), h.about(2)]
    assert (queue.stats().runs_failed, queue.stats().succeeded) == (2, 1)
    assert [event.after for event in seen.retried] == [pytest.approx(h.s(2))] * 2
    assert len(seen.failed) == 2


def test_3_retry_envelope_without_a_time_goes_by_backoff(h):
    """3: RetryEnvelope(after=None): retried by backoff."""

    def invoke(ctx, envelope):
        if ctx.attempt < 4:
            raise RetryEnvelope

    queue, seen = run(h, Envelope.once(invoke))
    assert [event.after for event in seen.retried] == pytest.approx([0.005, 0.01, 0.02])
    assert queue.stats().succeeded == 1


def test_3_max_attempts_applies_to_retry_envelope(h):
    """3: RetryEnvelope: max_attempts applies."""
    queue, _ = run(h, Envelope.once(marks_and_raises(h, "run", RetryEnvelope), max_attempts=3))
    assert h.labels() == ["run"] * 3
    assert (queue.stats().dropped, queue.dead_letters()[0].attempts) == (1, 3)


def test_3_a_handler_may_change_the_payload(h):
    """3: the payload can be assigned during a run, and the next attempt sees it."""
    seen = []

    def invoke(ctx, envelope):
        seen.append(envelope.payload)
        envelope.payload += 1
        if ctx.attempt < 3:
            raise ValueError

    run(h, Envelope.once(invoke, 1, failure_hook=lambda *args: retry_now()))
    assert seen == [1, 2, 3]


def test_3_success_is_decided_after_a_failed_attempt(h):
    """3: an entry that failed and was retried ends with exactly one outcome."""
    queue, seen = run(h, Envelope.once(fails_times(h, 2), failure_hook=lambda *args: retry_now()))
    stats = queue.stats()
    assert (stats.accepted, stats.succeeded, stats.dropped) == (1, 1, 0)
    assert (stats.runs_started, stats.runs_failed, stats.runs_succeeded) == (3, 2, 1)
    assert (len(seen.failed), seen.dropped) == (2, [])
