"""Section D: the ways of stopping, and what each of them keeps."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import (
    Context,
    Envelope,
    QueueState,
    QueueStateError,
    QueueTerminatedError,
    StopMode,
    StopReport,
    retry_after,
    retry_now,
    retry_with_backoff,
)

from .harness import Gate, Harness, concurrent_only, cooperative_only

DRAIN, STOP = StopMode.DRAIN, StopMode.STOP
MODES = [pytest.param(DRAIN, id="DRAIN"), pytest.param(STOP, id="STOP")]


def noop(ctx: Any, envelope: Any) -> None: ...


def held(gate: Gate, **options: Any) -> Envelope:
    """An envelope whose handler is held by *gate*."""
    return Envelope(lambda ctx, envelope: gate.wait(ctx), **options)


def two_of_one_second(h: Harness) -> tuple[Any, list[Envelope]]:
    """A queue, started, into which two one-off envelopes of 1 s were sent in init."""
    queue = h.queue()
    envelopes = [Envelope(h.handler(number, seconds=1)) for number in range(2)]
    queue.send(*envelopes)
    queue.start()
    return queue, envelopes


def test_d21_drain_wait(h: Harness) -> None:
    """D21: DRAIN, wait -> 2 runs, and they have ended when stop returns."""
    queue, _ = two_of_one_second(h)
    report = queue.stop(DRAIN, wait=True)
    assert h.labels() == [0, 1]
    assert (report.state, report.mode, report.waited, report.timed_out) == (QueueState.STOPPED, DRAIN, True, False)
    assert (report.succeeded, report.dropped, report.kept, report.returned, report.abandoned) == (2, 0, (), (), ())
    h.pass_time(3)
    assert h.labels() == [0, 1]


def test_d22_drain_without_waiting(h: Harness) -> None:
    """D22: DRAIN, no wait -> 2 runs, in the background."""
    queue, _ = two_of_one_second(h)
    provisional = queue.stop(DRAIN, wait=False)
    assert (provisional.state, provisional.waited) == (QueueState.STOPPING, False)
    assert not provisional.initiated_from_handler
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert h.labels() == [0, 1]
    final = queue.stop()
    assert (final.state, final.succeeded, final.kept) == (QueueState.STOPPED, 2, ())


@pytest.mark.parametrize("wait", [True, False])
def test_d23_d24_stop(h: Harness, wait: bool) -> None:
    """D23, D24: STOP, wait or not -> at most the one that was running; the rest is reported and runs after a start."""
    queue, envelopes = two_of_one_second(h)
    queue.stop(STOP, wait=wait)
    h.pass_time(3)
    h.until(lambda: queue.state is QueueState.STOPPED)
    report = queue.last_report
    ran = h.labels()
    assert len(ran) <= 1
    assert report.succeeded == len(ran)
    assert report.kept == tuple(envelopes[len(ran) :])
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [0, 1]


@pytest.mark.parametrize("wait", [True, False])
def test_d23_d24_stop_with_one_running(h: Harness, wait: bool) -> None:
    """D23, D24: STOP, wait or not: what is running finishes, nothing else starts, the other is kept."""
    queue = h.queue()
    running = Envelope(lambda ctx, envelope: h.await_stop(ctx) or h.mark("running"))
    other = Envelope(h.handler("other"))
    queue.send(running, other)
    queue.start()
    h.until(lambda: queue.stats().running)
    queue.stop(STOP, wait=wait)
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert h.labels() == ["running"]
    assert (queue.last_report.kept, queue.last_report.succeeded) == ((other,), 1)
    queue.start()
    h.until(lambda: h.labels() == ["running", "other"])


def test_d25_drain_with_periodics(h: Harness) -> None:
    """D25: DRAIN with periodics of 2 s and 3 s, stop at 0.5 s, terminate -> 2 runs in all, none later."""
    queue = h.queue()
    two = Envelope.every(h.s(2), h.handler("two"))
    three = Envelope.every(h.s(3), h.handler("three"))
    queue.send(two, three)
    queue.start()
    h.until(lambda: len(h.log) == 2)
    h.pass_time(0.5)
    stopped = queue.stop()
    assert set(stopped.kept) == {two, three}
    ended = queue.terminate()
    assert set(ended.returned) == {two, three}
    assert len(queue) == 0
    runs = queue.stats().runs_started
    h.pass_time(6)
    assert queue.stats().runs_started == runs
    if h.is_virtual:
        assert h.labels() == ["two", "three"]


def test_d26_due_times_survive(h: Harness) -> None:
    """D26: delayed and periodic entries survive stop and start with their due times."""
    queue = h.queue(workers=2)
    delayed = Envelope(h.handler("delayed"))
    periodic = Envelope.every(h.s(20), h.handler("periodic"))
    began_at = h.now()
    queue.send(delayed, delay=h.s(26))
    queue.send(periodic)
    queue.start()
    h.until(lambda: h.times("periodic"))
    ran_at = h.times("periodic")[0]
    h.until(lambda: queue.stats().delayed == 2)
    report = queue.stop()
    assert set(report.kept) == {delayed, periodic}
    h.pass_time(5)
    queue.start()
    assert queue.stats().delayed == 2
    h.until(lambda: len(h.log) >= 3, timeout=60)
    assert h.labels() == ["periodic", "periodic", "delayed"]
    assert h.times("periodic")[1] - ran_at == h.about(20)
    assert h.times("delayed")[0] - began_at == h.about(26)


def test_d26_what_became_due_while_stopped_runs_at_the_start(h: Harness) -> None:
    """D26: what became due while the queue was stopped runs once at the next start, not before."""
    queue = h.queue()
    queue.start()
    queue.send(Envelope(h.handler("delayed")), delay=h.s(2))
    queue.stop()
    h.pass_time(4)
    assert h.labels() == []
    queue.start()
    h.until(lambda: h.labels() == ["delayed"])
    h.pass_time(3)
    assert h.labels() == ["delayed"]


def fails_once(h: Harness, decision: Any) -> Envelope:
    """An envelope that works until a stop has begun, fails once, and then decides."""

    def invoke(ctx: Context, envelope: Envelope) -> None:
        h.mark(ctx.attempt)
        if ctx.attempt == 1:
            h.await_stop(ctx)
            raise ZeroDivisionError

    return Envelope(invoke, failure_hook=lambda ctx, envelope, error: decision)


def test_d27_retry_now_during_drain(h: Harness) -> None:
    """D27: retry_now decided during DRAIN runs."""
    queue = h.queue()
    queue.send(fails_once(h, retry_now()))
    queue.start()
    h.until(lambda: h.labels() == [1])
    report = queue.stop(DRAIN)
    assert h.labels() == [1, 2]
    assert (report.succeeded, report.kept) == (1, ())


@pytest.mark.parametrize("decision", [retry_after(0.001), retry_with_backoff()])
def test_d27_a_later_retry_during_drain_is_kept(h: Harness, decision: Any) -> None:
    """D27 (CONTRACT 7): retry_after and a backoff above 0 decided during DRAIN are kept, and run after a start."""
    queue = h.queue()
    envelope = fails_once(h, decision)
    queue.send(envelope)
    queue.start()
    h.until(lambda: h.labels() == [1])
    report = queue.stop(DRAIN)
    h.pass_time(1)
    assert h.labels() == [1]
    assert report.kept == (envelope,)
    queue.start()
    h.until(lambda: h.labels() == [1, 2])


def test_d27_retry_now_during_stop_is_kept(h: Harness) -> None:
    """D27 (CONTRACT 7): in STOP nothing else starts, so a retry_now is kept."""
    queue = h.queue()
    envelope = fails_once(h, retry_now())
    queue.send(envelope)
    queue.start()
    h.until(lambda: h.labels() == [1])
    report = queue.stop(STOP)
    assert (h.labels(), report.kept) == ([1], (envelope,))
    queue.start()
    h.until(lambda: h.labels() == [1, 2])


def test_d27_a_pending_resend_runs_in_the_drain(h: Harness) -> None:
    """D27 (CONTRACT 7): a pending re-send runs in DRAIN."""
    queue = h.queue()
    envelope = Envelope(lambda ctx, envelope: h.mark("ran") or h.await_stop(ctx))
    queue.send(envelope)
    queue.start()
    h.until(lambda: h.labels() == ["ran"])
    queue.send(envelope)
    report = queue.stop(DRAIN)
    assert h.labels() == ["ran", "ran"]
    assert (report.succeeded, report.kept) == (1, ())


def test_d27_a_pending_resend_is_kept_in_stop(h: Harness) -> None:
    """D27 (CONTRACT 7): a pending re-send is kept in STOP, and its run comes after the next start."""
    queue = h.queue()
    envelope = Envelope(lambda ctx, envelope: h.mark("ran") or h.await_stop(ctx))
    queue.send(envelope)
    queue.start()
    h.until(lambda: h.labels() == ["ran"])
    queue.send(envelope)
    report = queue.stop(STOP)
    assert (report.kept, report.succeeded) == ((envelope,), 0)
    assert queue.stats().succeeded == 0
    queue.start()
    h.until(lambda: h.labels() == ["ran", "ran"])
    queue.stop()


def test_d27_what_becomes_due_during_the_drain_is_kept(h: Harness) -> None:
    """D27 (CONTRACT 7): what becomes due during the drain is kept."""
    queue = h.queue()
    queue.start()
    late = Envelope(h.handler("late"))
    queue.send(Envelope(lambda ctx, envelope: h.await_stop(ctx) or h.work(ctx, 4)))
    h.until(lambda: queue.stats().running)
    queue.send(late, delay=h.s(2))
    report = queue.stop(DRAIN)
    assert (report.kept, h.labels()) == ((late,), [])
    queue.start()
    h.until(lambda: h.labels() == ["late"])


def test_d27_drain_of_a_paused_queue(h: Harness) -> None:
    """D27 (CONTRACT 7): DRAIN of a paused queue keeps what waits."""
    queue = h.queue()
    queue.start()
    queue.pause()
    envelope = Envelope(h.handler("ran"))
    queue.send(envelope)
    report = queue.stop(DRAIN)
    assert (report.kept, h.labels()) == ((envelope,), [])


def test_d28_stop_from_a_handler(h: Harness) -> None:
    """D28: stop from a handler returns at once and the queue stops."""
    queue = h.queue()
    reports: list[StopReport] = []

    def invoke(ctx: Any, envelope: Any) -> None:
        reports.append(ctx.queue.stop())
        h.mark("after stop")

    queue.send(Envelope(invoke))
    queue.start()
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert h.labels() == ["after stop"]
    assert (reports[0].state, reports[0].initiated_from_handler) == (QueueState.STOPPING, True)
    final = queue.stop()
    assert (final.state, final.succeeded) == (QueueState.STOPPED, 1)


@pytest.mark.parametrize("hook", ["before_hook", "after_hook", "success_hook", "failure_hook"])
def test_d28_stop_from_a_hook(h: Harness, hook: str) -> None:
    """D28 (CONTRACT 7): the same from inside a hook."""
    queue = h.queue()
    reports: list[StopReport] = []

    def invoke(ctx: Any, envelope: Any) -> None:
        if hook == "failure_hook":
            raise ZeroDivisionError

    queue.send(Envelope(invoke, **{hook: lambda ctx, *rest: reports.append(ctx.queue.stop())}))
    queue.start()
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert (reports[0].state, reports[0].initiated_from_handler) == (QueueState.STOPPING, True)


def test_d28_stop_from_an_observer(h: Harness) -> None:
    """D28 (CONTRACT 7): whoever delivers effects is inside: the same from an observer's event."""
    reports: list[StopReport] = []

    class Observer:
        def on_failed(self, event: Any) -> None:
            reports.append(queue.stop())

    queue = h.queue(observers=[Observer()])

    def invoke(ctx: Any, envelope: Any) -> None:
        raise ZeroDivisionError

    queue.send(Envelope(invoke))
    queue.start()
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert (reports[0].state, reports[0].initiated_from_handler) == (QueueState.STOPPING, True)


def test_d28_start_from_a_handler_while_stopping(h: Harness) -> None:
    """D28 (CONTRACT 7): start from a handler while the queue stops raises QueueStateError, as from anywhere."""
    queue = h.queue()

    def invoke(ctx: Any, envelope: Any) -> None:
        ctx.queue.stop()
        with pytest.raises(QueueStateError):
            ctx.queue.start()
        h.mark("refused")

    queue.send(Envelope(invoke))
    queue.start()
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert h.labels() == ["refused"]


def test_d28_terminate_from_a_handler(h: Harness) -> None:
    """D28 (CONTRACT 7): terminate from a handler returns at once, cancels its context, and the queue ends."""
    queue = h.queue()
    seen: list[Any] = []

    def invoke(ctx: Any, envelope: Any) -> None:
        seen.append(ctx.queue.terminate())
        seen.append(ctx.cancelled)

    waiting = Envelope(noop)
    queue.send(Envelope(invoke), waiting)
    queue.start()
    h.until(lambda: queue.state is QueueState.TERMINATED)
    assert (seen[0].state, seen[0].initiated_from_handler, seen[1]) == (QueueState.STOPPING, True, True)
    assert queue.last_report.returned == (waiting,)


def test_d29_a_handler_that_ignores_everything(h: Harness) -> None:
    """D29: stop(timeout=1, grace=0.05), a handler that ignores everything -> within 1.1 s, abandoned names it."""
    queue, gate = h.queue(), h.gate()
    envelope = held(gate)
    queue.send(envelope)
    queue.start()
    h.until(lambda: gate.waiting)
    began_at = h.now()
    report = queue.stop(timeout=h.s(1), grace=h.s(0.05))
    assert h.now() - began_at == h.about(1.05)
    assert (report.abandoned, report.timed_out, report.state) == ((envelope,), True, QueueState.STOPPED)
    assert report.elapsed / h.unit == h.about(1.05)
    stats = queue.stats()
    assert (stats.abandoned, stats.running, stats.occupancy, stats.runs_abandoned) == (1, 0, 0, 1)


def test_d29_its_later_end_changes_nothing_but_a_counter(h: Harness) -> None:
    """D29 (CONTRACT 7): the later end of an abandoned run changes nothing but a counter."""
    queue, gate = h.queue(), h.gate()
    queue.send(held(gate, success_hook=noop))
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(timeout=0, grace=0)
    before = queue.stats()
    assert before.abandoned_ended == 0
    gate.open()
    h.until(lambda: queue.stats().abandoned_ended == 1)
    after = queue.stats()
    for name in ("accepted", "succeeded", "abandoned", "runs_started", "runs_succeeded", "runs_abandoned", "occupancy"):
        assert getattr(after, name) == getattr(before, name), name


def test_d29_timeout_zero_cancels_at_once(h: Harness) -> None:
    """D29 (CONTRACT 7): timeout=0 cancels contexts at once; a run that ends by it within grace is kept."""
    queue = h.queue()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark(ctx.attempt)
        if len(h.log) == 1:
            assert ctx.wait(None)
            assert ctx.cancelled
            ctx.check()

    envelope = Envelope(invoke)
    queue.send(envelope)
    queue.start()
    h.until(lambda: h.log)
    report = queue.stop(timeout=0, grace=20)
    assert (report.kept, report.abandoned, report.timed_out) == ((envelope,), (), True)
    assert queue.stats().runs_cancelled == 1
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [1, 1]  # the cancelled run did not count as an attempt


def test_d29_no_timeout_cancels_no_context(h: Harness) -> None:
    """D29 (CONTRACT 7): without a timeout a stop cancels no context; it says that it is stopping."""
    queue = h.queue()
    seen: list[Any] = []

    def invoke(ctx: Any, envelope: Any) -> None:
        seen.append(ctx.stopping)
        h.await_stop(ctx)
        seen.append((ctx.stopping, ctx.cancelled, ctx.wait(h.s(2)), ctx.done))

    for mode in (DRAIN, STOP):
        queue.start()
        queue.send(Envelope(invoke))
        h.until(lambda: queue.stats().running)
        queue.stop(mode)
    assert seen == [False, (True, False, False, False)] * 2


@cooperative_only(see="test_asyncio_cancelling")
def test_d29_drain_becomes_stop_at_its_timeout(h: Harness) -> None:
    """D29 (CONTRACT 7): DRAIN at its timeout becomes STOP; what was ready is kept."""
    queue = h.queue()
    running = Envelope(lambda ctx, envelope: ctx.wait(None))
    ready = [Envelope(h.handler("never")) for _ in range(2)]
    queue.send(running, *ready)
    queue.start()
    h.until(lambda: queue.stats().running)
    report = queue.stop(DRAIN, timeout=h.s(1), grace=20)
    assert (report.kept, report.succeeded, report.abandoned) == (tuple(ready), 1, ())
    assert report.timed_out
    assert h.labels() == []


def test_d30_two_stops_at_once(h: Harness) -> None:
    """D30: two concurrent stops -> the same report."""
    queue = h.queue()
    queue.send(Envelope(lambda ctx, envelope: h.await_stop(ctx) or h.work(ctx, 3)), Envelope(noop))
    queue.start()
    h.until(lambda: queue.stats().running)
    stops = [h.in_background(queue.stop) for _ in range(2)]
    first, second = (stop.result() for stop in stops)
    assert first == second == queue.last_report
    assert (first.state, first.succeeded) == (QueueState.STOPPED, 2)


def test_d30_a_harder_mode_escalates(h: Harness) -> None:
    """D30 (CONTRACT 7): a second stop joins the first; a harder mode escalates it."""
    queue, gate = h.queue(), h.gate()
    waiting = Envelope(h.handler("never"))
    queue.send(held(gate), waiting)
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(DRAIN, wait=False)
    queue.stop(STOP, wait=False)
    gate.open()
    report = queue.stop()
    assert (report.mode, report.kept, h.labels()) == (STOP, (waiting,), [])


def test_d30_a_softer_mode_does_not_soften(h: Harness) -> None:
    """D30 (CONTRACT 7): a second stop in a softer mode leaves the first as hard as it was."""
    queue, gate = h.queue(), h.gate()
    waiting = Envelope(h.handler("never"))
    queue.send(held(gate), waiting)
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(STOP, wait=False)
    queue.stop(DRAIN, wait=False)
    gate.open()
    report = queue.stop()
    assert (report.mode, report.kept, h.labels()) == (STOP, (waiting,), [])


def test_d30_a_timeout_escalates(h: Harness) -> None:
    """D30 (CONTRACT 7): a timeout given by a second stop bounds the first."""
    queue, gate = h.queue(), h.gate()
    envelope = held(gate)
    queue.send(envelope)
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(wait=False)
    report = queue.stop(timeout=h.s(1), grace=0)
    assert (report.abandoned, report.timed_out) == ((envelope,), True)


def test_d30_terminate_escalates_a_drain(h: Harness) -> None:
    """D30 (CONTRACT 7): terminate during a drain cancels what runs and returns all that remains."""
    queue = h.queue()

    def invoke(ctx: Any, envelope: Any) -> None:
        ctx.wait(None)
        ctx.check()

    running, waiting = Envelope(invoke), Envelope(noop)
    queue.send(running, waiting)
    queue.start()
    h.until(lambda: queue.stats().running)
    queue.stop(DRAIN, wait=False)
    report = queue.terminate()
    assert report.state is queue.state is QueueState.TERMINATED
    assert set(report.returned) == {running, waiting}
    assert report.kept == ()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wait", [True, False])
def test_d_stop_in_init(h: Harness, mode: StopMode, wait: bool) -> None:
    """D (CONTRACT 7): stop in INIT: an empty report, state unchanged, and what was buffered stays."""
    queue = h.queue()
    envelope = Envelope(h.handler("ran"))
    queue.send(envelope)
    report = queue.stop(mode, wait=wait)
    assert (report.kept, report.returned, report.abandoned, report.succeeded) == ((), (), (), 0)
    assert report.state is queue.state is QueueState.INIT
    queue.start()
    h.until(lambda: h.labels() == ["ran"])


def test_d_stop_when_stopped_or_terminated(h: Harness) -> None:
    """D (CONTRACT 7): stop in STOPPED or TERMINATED: the last report."""
    queue = h.queue()
    assert queue.last_report is None
    queue.start()
    queue.send(Envelope(noop))
    report = queue.stop()
    assert queue.stop(STOP) == queue.stop(timeout=0) == queue.last_report == report
    ended = queue.terminate()
    assert queue.stop() == queue.last_report == ended
    assert ended.state is QueueState.TERMINATED


def test_d_the_mode_of_the_queue(h: Harness) -> None:
    """D (CONTRACT 2): stop without a mode uses stop_mode and wait_on_stop of the queue."""
    queue = h.queue(stop_mode=STOP, wait_on_stop=False)
    queue.send(*(Envelope(h.handler(number, seconds=1)) for number in range(3)))
    queue.start()
    report = queue.stop()
    assert (report.mode, report.waited) == (STOP, False)
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert len(h.log) <= 1
    assert len(queue.last_report.kept) == 3 - len(h.log)


@pytest.mark.parametrize("mode", MODES)
def test_d_what_is_kept_is_ready_after_the_start(h: Harness, mode: StopMode) -> None:
    """D (CONTRACT 7): what has not run is kept, goes on at the next start, and the report lists it in order."""
    queue = h.queue()
    queue.start()
    queue.pause()
    envelopes = [Envelope(h.handler(number)) for number in range(5)]
    queue.send(*envelopes)
    report = queue.stop(mode)
    assert report.kept == tuple(envelopes)
    assert len(queue) == 5
    queue.resume()
    queue.start()
    h.until(lambda: h.labels() == [0, 1, 2, 3, 4])


def test_d_terminate_returns_for_good(h: Harness) -> None:
    """D (CONTRACT 7): terminate cancels contexts at once; all that remains ends RETURNED."""
    queue = h.queue()

    def invoke(ctx: Any, envelope: Any) -> None:
        assert ctx.wait(None)
        ctx.check()

    running, ready, delayed = Envelope(invoke), Envelope(h.handler("never")), Envelope(h.handler("never"))
    queue.send(running, ready)
    queue.start()
    queue.send(delayed, delay=h.s(100))
    h.until(lambda: queue.stats().running)
    report = queue.terminate()
    assert set(report.returned) == {running, ready, delayed}
    assert (report.kept, report.abandoned, report.state) == ((), (), QueueState.TERMINATED)
    stats = queue.stats()
    assert (stats.returned, stats.occupancy, stats.runs_cancelled) == (3, 0, 1)


def test_d_terminate_returns_what_a_stop_kept(h: Harness) -> None:
    """D (CONTRACT 7): terminate after a stop returns what the stop had kept."""
    queue = h.queue()
    queue.start()
    queue.pause()
    envelope = Envelope(noop)
    queue.send(envelope)
    assert queue.stop().kept == (envelope,)
    assert queue.terminate().returned == (envelope,)


@cooperative_only(see="test_asyncio_cancelling")
def test_d_terminate_waits_without_limit(h: Harness) -> None:
    """D (CONTRACT 7): terminate with timeout=None waits for what runs; a handler that returns has succeeded."""
    queue = h.queue()
    queue.send(Envelope(lambda ctx, envelope: ctx.wait(None) and h.work(ctx, 5)))
    queue.start()
    h.until(lambda: queue.stats().running)
    began_at = h.now()
    report = queue.terminate()
    assert h.now() - began_at == h.about(5)
    assert (report.succeeded, report.returned, report.abandoned) == (1, (), ())


def test_d_terminate_abandons_after_timeout_and_grace(h: Harness) -> None:
    """D (CONTRACT 7): terminate abandons at timeout + grace."""
    queue, gate = h.queue(), h.gate()
    envelope = held(gate)
    queue.send(envelope)
    queue.start()
    h.until(lambda: gate.waiting)
    began_at = h.now()
    report = queue.terminate(timeout=h.s(2), grace=h.s(1))
    assert h.now() - began_at == h.about(3)
    assert (report.abandoned, report.returned, report.state) == ((envelope,), (), QueueState.TERMINATED)
    assert queue.stats().abandoned == 1


def test_d_terminating(h: Harness) -> None:
    """D (CONTRACT 7): while a terminate waits the state is STOPPING, but send and start raise QueueTerminatedError."""
    queue, gate = h.queue(), h.gate()
    queue.send(held(gate))
    queue.start()
    h.until(lambda: gate.waiting)
    queue.terminate(wait=False)
    assert queue.state is QueueState.STOPPING
    with pytest.raises(QueueTerminatedError):
        queue.send(Envelope(noop))
    with pytest.raises(QueueTerminatedError):
        queue.start()
    gate.open()
    h.until(lambda: queue.state is QueueState.TERMINATED)


def test_d_restart_behind_an_abandoned_run(h: Harness) -> None:
    """D33 (CONTRACT 4): a send behind an abandoned run is accepted, counts as ready, starts when that has ended."""
    queue, gate = h.queue(workers=2), h.gate()
    held_up = Envelope(lambda ctx, envelope: h.mark("in") or gate.wait(ctx) or h.mark("out"))
    queue.send(held_up)
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(timeout=0, grace=0)
    queue.start()
    assert queue.send(held_up) == 1
    queue.send(Envelope(h.handler("other")))
    h.until(lambda: "other" in h.labels())
    h.pass_time(1)
    assert h.labels() == ["in", "other"]
    assert (queue.stats().ready, queue.stats().running) == (1, 0)
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["in", "other", "out", "in", "out"]


def test_d_an_abandoned_run_takes_no_worker(h: Harness) -> None:
    """D33 (CONTRACT 4): an abandoned run counts neither in occupancy nor against workers."""
    queue, gate = h.queue(workers=1, capacity=1), h.gate()
    queue.send(held(gate))
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(timeout=0, grace=0)
    queue.start()
    assert len(queue) == 0
    queue.send(Envelope(h.handler("other")))
    h.until(lambda: h.labels() == ["other"])


def test_d_drain_keeps_what_waits_behind_an_abandoned_run(h: Harness) -> None:
    """D33 (CONTRACT 4): what waits behind an abandoned run is kept by DRAIN."""
    queue, gate = h.queue(), h.gate()
    envelope = held(gate)
    queue.send(envelope)
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(timeout=0, grace=0)
    queue.start()
    queue.send(envelope)
    report = queue.stop(DRAIN)
    assert (report.kept, report.abandoned) == ((envelope,), ())


def test_d_abandoned_with_a_resend_pending(h: Harness) -> None:
    """D33 (CONTRACT 4): abandoned with a re-send pending: in kept and abandoned; the run counts, not the entry."""
    queue, gate = h.queue(), h.gate()
    envelope = Envelope(lambda ctx, envelope: h.mark("in") or gate.wait(ctx))
    queue.send(envelope)
    queue.start()
    h.until(lambda: gate.waiting)
    queue.send(envelope)
    report = queue.stop(timeout=0, grace=0)
    assert (report.kept, report.abandoned) == ((envelope,), (envelope,))
    stats = queue.stats()
    assert (stats.abandoned, stats.runs_abandoned, stats.occupancy) == (0, 1, 1)
    queue.start()
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["in", "in"]
    assert queue.stats().succeeded == 1


def test_d_abandoned_with_a_resend_pending_under_terminate(h: Harness) -> None:
    """D33 (CONTRACT 4): the same under terminate ends ABANDONED."""
    queue, gate = h.queue(), h.gate()
    envelope = held(gate)
    queue.send(envelope)
    queue.start()
    h.until(lambda: gate.waiting)
    queue.send(envelope)
    report = queue.terminate(timeout=0, grace=0)
    assert (report.abandoned, report.kept, report.returned) == ((envelope,), (), ())
    assert (queue.stats().abandoned, queue.stats().returned) == (1, 0)


def test_d_an_abandoned_periodic_has_ended(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """D33 (CONTRACT 4): an abandoned periodic has ended: one ERROR record says so."""
    queue, gate = h.queue(), h.gate()
    queue.send(Envelope.every(h.s(1), lambda ctx, envelope: h.mark("in") or gate.wait(ctx), type="metrics"))
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(timeout=0, grace=0)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "metrics" in errors[0].getMessage()
    queue.start()
    gate.open()
    h.pass_time(3)
    assert h.labels() == ["in"]
    assert len(queue) == 0


def test_d_stopped_means_that_nothing_runs(h: Harness) -> None:
    """D (CONTRACT 7): state stopped means that nothing of this queue runs."""
    queue = h.queue(workers=3)
    inside = []

    def invoke(ctx: Any, envelope: Any) -> None:
        inside.append(envelope)
        h.work(ctx, 1)
        inside.remove(envelope)

    queue.send(*(Envelope(invoke) for _ in range(6)))
    queue.start()
    h.pass_time(0.5)
    queue.stop(STOP, wait=False)
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert inside == []
    assert queue.stats().running == 0


@concurrent_only
def test_d_stop_returns_while_another_start_waits(h: Harness) -> None:
    """D (CONTRACT 7): a queue may be started again the moment that stop has returned."""
    queue = h.queue(workers=4)
    for number in range(20):
        queue.start()
        queue.send(Envelope(h.handler(number)))
        queue.stop()
    assert h.labels() == list(range(20))


def test_d_a_stop_while_stopping_raises_nothing(h: Harness) -> None:
    """D (CONTRACT 7): a stop while stopping is provisional when it does not wait, and start is still refused."""
    queue, gate = h.queue(), h.gate()
    queue.send(held(gate))
    queue.start()
    h.until(lambda: gate.waiting)
    for _ in range(3):
        assert queue.stop(wait=False).state is QueueState.STOPPING
    with pytest.raises(QueueStateError):
        queue.start()
    gate.open()
    assert queue.stop().state is QueueState.STOPPED
