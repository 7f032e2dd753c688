"""Section F: what an error, a stop or a cancellation in each place does to the run and to the entry."""

from __future__ import annotations

import pytest

from rate_envelope_queue import Cancelled, Envelope, StopEnvelope

from .harness import cooperative_only
from .running import Seen, marks, marks_and_raises, raises, run_once, started


def cycles(h, count, **hooks):
    """Send a periodic of 1 s with these hooks; wait for *count* runs; the queue and what its observer saw."""
    seen = Seen()
    queue = started(h, observers=(seen,))
    queue.send(Envelope.every(h.s(1), **hooks))
    h.until(lambda: queue.stats().runs_started > count)
    return queue, seen


def in_first_cycle(h, label, error):
    """Marks *label*; raises *error* the first time."""

    def function(*args):
        h.mark(label)
        if len(h.times(label)) == 1:
            raise error

    return function


def test_f42_a_before_hook_that_fails_costs_one_cycle(h):
    """F42: periodic, before fails in cycle 1 -> invoke only in cycle 2."""
    queue, seen = cycles(h, 2, invoke=marks(h, "invoke"), before_hook=in_first_cycle(h, "before", ValueError("no")))
    assert h.labels()[:3] == ["before", "before", "invoke"]
    assert h.times("before")[1] - h.times("before")[0] == h.about(1)
    assert queue.stats().runs_failed == len(seen.failed) == 1


def test_f43_an_invoke_that_fails_costs_one_cycle(h):
    """F43: periodic, invoke fails -> cycle 2 runs."""
    queue, seen = cycles(h, 2, invoke=in_first_cycle(h, "invoke", ValueError("no")), success_hook=marks(h, "success"))
    assert h.labels()[:3] == ["invoke", "invoke", "success"]
    assert h.times("invoke")[1] - h.times("invoke")[0] == h.about(1)
    assert queue.stats().runs_failed == len(seen.failed) == 1


def test_f44_an_after_hook_that_always_fails_stops_nothing(h):
    """F44: periodic, after always fails -> cycles go on, recorded."""
    queue, seen = cycles(
        h, 3, invoke=marks(h, "invoke"), after_hook=raises(ValueError), success_hook=marks(h, "success")
    )
    assert h.labels()[:6] == ["invoke", "success"] * 3
    assert len(seen.hook_failed) >= 3
    assert {(event.hook, type(event.error)) for event in seen.hook_failed} == {("after_hook", ValueError)}
    assert queue.stats().runs_failed == 0


def test_f45_a_handler_that_raises_system_exit_costs_one_cycle(h):
    """F45: periodic whose handler raises SystemExit -> goes on."""
    queue, seen = cycles(h, 2, invoke=in_first_cycle(h, "invoke", SystemExit(3)))
    assert len(h.times("invoke")) >= 2
    assert [type(event.error) for event in seen.failed] == [SystemExit]
    assert queue.stats().runs_failed == 1


def test_f46_after_a_before_hook_that_fails_nothing_else_is_called(h):
    """F46: before fails -> invoke not called, after not called."""
    envelope = Envelope.once(
        marks(h, "invoke"),
        before_hook=marks_and_raises(h, "before", ValueError),
        after_hook=marks(h, "after"),
        success_hook=marks(h, "success"),
    )
    queue, _, _ = run_once(h, envelope)
    assert h.labels() == ["before"]
    assert queue.stats().dropped == 1


def test_f47_a_before_hook_that_raises_stop_envelope(h):
    """F47: before raises StopEnvelope -> invoke no, after yes."""
    envelope = Envelope.once(
        marks(h, "invoke"),
        before_hook=marks_and_raises(h, "before", StopEnvelope),
        after_hook=marks(h, "after"),
        failure_hook=marks(h, "failure"),
    )
    queue, _, _ = run_once(h, envelope)
    assert h.labels() == ["before", "after"]
    assert queue.stats().stopped == 1


def test_f48_after_an_invoke_that_fails_after_is_not_called(h):
    """F48: invoke fails -> after not called."""
    queue, _, _ = run_once(h, Envelope.once(marks_and_raises(h, "invoke", ValueError), after_hook=marks(h, "after")))
    assert h.labels() == ["invoke"]
    assert queue.stats().dropped == 1


def as_cause():
    try:
        raise StopEnvelope
    except StopEnvelope as stop:
        error = ValueError("stopped on purpose")
        error.__cause__ = stop
        return error


STOPS = {
    "bare": StopEnvelope,
    "with text": lambda: StopEnvelope("enough"),
    "subclass": lambda: type("Enough", (StopEnvelope,), {})(),
    "as __cause__": as_cause,
    "in a group": lambda: ExceptionGroup("two", [ValueError(), StopEnvelope()]),
    "in a group in a group": lambda: BaseExceptionGroup("o", [SystemExit(), ExceptionGroup("i", [StopEnvelope()])]),
    "as __cause__ in a group": lambda: ExceptionGroup("one", [as_cause()]),
}


@pytest.mark.parametrize("periodic", [False, True], ids=["one-off", "periodic"])
@pytest.mark.parametrize("place", ["before_hook", "invoke"])
@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_f49_stop_envelope_ends_the_entry_however_it_is_wrapped(h, stop, place, periodic):
    """F49: invoke raises StopEnvelope (also wrapped) -> after called, success hook not, periodic ends."""
    functions = {
        "invoke": marks(h, "invoke"),
        "after_hook": marks(h, "after"),
        "success_hook": marks(h, "success"),
        "failure_hook": marks(h, "failure"),
        place: raises(stop),
    }
    queue, seen, report = run_once(h, Envelope(**functions, interval=h.s(1) if periodic else None))
    stats = queue.stats()
    assert h.labels() == ["after"]
    assert (stats.stopped, stats.runs_stopped, stats.runs_failed, stats.occupancy) == (1, 1, 0, 0)
    assert (seen.failed, report.kept) == ([], ())


def test_f49_a_stop_that_is_only_context_is_an_ordinary_error(h):
    """F49: an error raised while a StopEnvelope was handled, but not from it, is a failure."""

    def invoke(ctx, envelope):
        try:
            raise StopEnvelope
        except StopEnvelope:
            raise ValueError  # noqa: B904  the missing "from" is the point

    queue, _, _ = run_once(h, Envelope.once(invoke))
    assert (queue.stats().dropped, queue.stats().stopped) == (1, 0)


def end(queue, how):
    """End *queue* the hard way; the entries it kept or returned."""
    if how == "terminate":
        return queue.terminate().returned
    return queue.stop(timeout=0).kept


@cooperative_only(see="test_asyncio_cancelling")
@pytest.mark.parametrize("periodic", [False, True], ids=["one-off", "periodic"])
@pytest.mark.parametrize("how", ["terminate", "stop(timeout=0)"])
@pytest.mark.parametrize("place", ["before_hook", "before_hook returns", "invoke"])
def test_f50_a_run_that_waits_on_its_context_is_cancelled(h, place, how, periodic):
    """F50: terminate(), or stop(timeout=0), while a hook or handler waits on its context -> that run is cancelled, one
    cycle only, the entry returned or kept."""

    def waits(ctx, envelope):
        h.mark("waits")
        h.mark(ctx.wait())
        if "returns" not in place:
            ctx.check()

    functions = {
        "invoke": marks(h, "invoke"),
        "after_hook": marks(h, "after"),
        "success_hook": marks(h, "success"),
        "failure_hook": marks(h, "failure"),
        place.split()[0]: waits,
    }
    seen = Seen()
    queue = started(h, hook_timeout_floor=1000, observers=(seen,))
    envelope = Envelope(**functions, interval=h.s(1) if periodic else None)
    queue.send(envelope)
    h.until(lambda: "waits" in h.labels())
    assert end(queue, how) == (envelope,)
    h.pass_time(3)
    stats = queue.stats()
    assert h.labels() == ["waits", True]
    assert (stats.runs_started, stats.runs_cancelled, stats.runs_failed) == (1, 1, 0)
    assert (stats.returned, stats.occupancy) == ((1, 0) if how == "terminate" else (0, 1))
    assert seen.failed == []


@cooperative_only(see="test_asyncio_cancelling")
@pytest.mark.parametrize("how", ["terminate", "stop(timeout=0)"])
@pytest.mark.parametrize("place", ["after_hook", "success_hook"])
def test_f50_a_periodic_whose_later_hook_waits_ends_after_one_cycle(h, place, how):
    """F50: terminate(), or stop(timeout=0), while a hook waits on its context -> one cycle only, the periodic
    returned or kept; its handler had succeeded already."""

    def waits(ctx, envelope):
        h.mark("waits")
        h.mark(ctx.wait())

    queue = started(h, hook_timeout_floor=1000)
    envelope = Envelope.every(h.s(1), marks(h, "invoke"), **{place: waits})
    queue.send(envelope)
    h.until(lambda: "waits" in h.labels())
    assert end(queue, how) == (envelope,)
    h.pass_time(3)
    assert h.labels() == ["invoke", "waits", True]
    assert (queue.stats().runs_started, queue.stats().runs_succeeded) == (1, 1)


@cooperative_only(see="test_asyncio_cancelling")
@pytest.mark.parametrize("how", ["terminate", "stop(timeout=0)"])
def test_f50_a_failure_hook_that_waits_still_decides(h, how):
    """F50: terminate(), or stop(timeout=0), while a failure hook waits on its context -> the hook wakes, and the run
    that had failed is settled by its answer."""

    def failure(ctx, envelope, error):
        h.mark("waits")
        h.mark(ctx.wait())

    queue = started(h, hook_timeout_floor=1000)
    queue.send(Envelope.once(raises(ValueError), failure_hook=failure))
    h.until(lambda: "waits" in h.labels())
    assert end(queue, how) == ()
    assert h.labels() == ["waits", True]
    assert (queue.stats().runs_failed, queue.stats().dropped) == (1, 1)


def test_f50_a_user_who_raises_cancelled_unasked_has_failed(h):
    """F50: only a run whose context was cancelled is a cancelled one; Cancelled raised otherwise is a failure."""
    queue, _, _ = run_once(h, Envelope.once(raises(Cancelled)))
    assert (queue.stats().runs_cancelled, queue.stats().runs_failed, queue.stats().dropped) == (0, 1, 1)
