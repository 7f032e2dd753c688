"""Contract section 9: no exception of user code ends a worker, a timer or another envelope."""

from __future__ import annotations

import pytest

from rate_envelope_queue import Envelope, QueueState, retry_with_backoff

from .harness import blocking_only, check_ledger, simulated_only, threads_only
from .hostile import ERRORS
from .running import Seen, finish, goes_on, marks, raises, run, run_once, started

every_error = pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)


@every_error
def test_9_invoke(h, error):
    """9: no exception of user code, of any class, ends a worker, a timer or another envelope: it is one failed run."""
    envelope = Envelope.once(raises(error), failure_hook=marks(h, "failure"))
    queue, seen = run(h, envelope)
    stats = queue.stats()
    assert h.labels() == ["failure"]
    assert (stats.runs_failed, stats.dropped, stats.runs_cancelled, stats.runs_stopped) == (1, 1, 0, 0)
    assert len(seen.failed) == 1
    assert isinstance(queue.dead_letters()[0].error, str)
    goes_on(h, queue)


@every_error
def test_9_before_hook(h, error):
    """9: no exception of a before hook, of any class, ends a worker, a timer or another envelope."""
    queue, seen = run(h, Envelope.once(marks(h, "invoke"), before_hook=raises(error)))
    assert (h.labels(), queue.stats().dropped, len(seen.failed)) == ([], 1, 1)
    goes_on(h, queue)


@every_error
@pytest.mark.parametrize("hook", ["after_hook", "success_hook"])
def test_9_after_and_success_hook(h, hook, error):
    """9: no exception of an after or success hook, of any class, ends a worker, a timer or another envelope."""
    queue, seen = run(h, Envelope.once(marks(h, "invoke"), **{hook: raises(error)}))
    assert (h.labels(), queue.stats().succeeded, len(seen.hook_failed)) == (["invoke"], 1, 1)
    goes_on(h, queue)


@every_error
def test_9_failure_hook(h, error):
    """9: no exception of a failure hook, of any class, ends a worker, a timer or another envelope."""
    queue, seen = run(h, Envelope.once(raises(KeyError), failure_hook=raises(error)))
    assert (queue.stats().dropped, len(seen.failed), len(seen.hook_failed)) == (1, 1, 1)
    goes_on(h, queue)


@every_error
@pytest.mark.parametrize("when", ["folded", "called"])
def test_9_stamps(h, when, error):
    """9: no exception of a stamp, when it is folded or when it is called, ends a worker, a timer or another
    envelope."""
    stamp = raises(error) if when == "folded" else lambda next: raises(error)
    queue, seen = run(h, Envelope.once(marks(h, "invoke"), stamps=[stamp]))
    assert (h.labels(), queue.stats().dropped, len(seen.failed)) == ([], 1, 1)
    goes_on(h, queue)


@every_error
def test_9_a_periodic_goes_on(h, error):
    """9: no exception of a periodic, of any class, ends it: one failed run each."""
    queue = started(h)
    queue.send(Envelope.every(h.s(0.2), raises(error)))
    h.until(lambda: queue.stats().runs_failed >= 2)
    assert len(queue) == 1


@threads_only
@pytest.mark.parametrize("place", ["before_hook", "invoke"])
def test_9_keyboard_interrupt_in_a_worker_thread_is_a_failed_run(h, place):
    """9: KeyboardInterrupt raised by user code in a worker thread is a failed run like any other."""
    queue, seen = run(h, Envelope.once(**{"invoke": marks(h, "invoke"), place: raises(KeyboardInterrupt)}))
    assert [type(event.error) for event in seen.failed] == [KeyboardInterrupt]
    assert queue.stats().dropped == 1
    goes_on(h, queue)


def interrupting(h, place):
    """The options of a queue and of an envelope that raises KeyboardInterrupt in *place*."""
    interrupts = raises(KeyboardInterrupt)
    limiter = {"when": interrupts, "forget": lambda *args: None, "num_requeues": lambda *args: 0}
    schedule = {"first": lambda self, *, now, wall_utc: now, "next": lambda *args, **times: interrupts()}
    failing = {"invoke": raises(ValueError)}
    return {
        "before_hook": ({}, {"before_hook": interrupts}),
        "invoke": ({}, {"invoke": interrupts}),
        "stamp folded": ({}, {"stamps": [interrupts]}),
        "stamp called": ({"stamps": [lambda next: interrupts]}, {}),
        "after_hook": ({}, {"after_hook": interrupts}),
        "success_hook": ({}, {"success_hook": interrupts}),
        "failure_hook": ({}, {**failing, "failure_hook": interrupts}),
        "limiter": (
            {"backoff": type("L", (), {**limiter, "when": lambda *args, **now: interrupts()})()},
            {**failing, "max_attempts": 2, "failure_hook": lambda *args: retry_with_backoff()},
        ),
        "schedule": ({}, {"schedule": type("S", (), {**schedule, "jitter": 0.0, "period": None})()}),
        "observer": ({"observers": (type("O", (), {"on_failed": lambda *args: interrupts()})(),)}, failing),
    }[place]


@blocking_only("plain calls in the main thread, where Ctrl-C comes")
def test_9_ctrl_c_while_observers_are_told(h):
    """9: Ctrl-C while an observer is told is raised to whoever made the call, once all observers were told; what the
    call did stands, and the observer that it came to is told of what follows."""
    interrupts = [KeyboardInterrupt]
    told, told_too = [], []

    class Interrupted:
        def on_state_changed(self, event):
            told.append(event.new)
            if interrupts:
                raise interrupts.pop()

    class Other:
        def on_state_changed(self, event):
            told_too.append(event.new)

    queue = h.queue(observers=(Interrupted(), Other()))
    with pytest.raises(KeyboardInterrupt):
        queue.start()
    assert queue.state is QueueState.RUNNING
    queue.send(Envelope(marks(h, "ran")))
    assert queue.join(h.s(20)) is True
    queue.stop()
    assert told == told_too == [QueueState.RUNNING, QueueState.STOPPING, QueueState.STOPPED]


IN_THE_RUN = ["before_hook", "invoke", "stamp folded", "stamp called"]
AROUND_THE_RUN = ["after_hook", "success_hook", "failure_hook", "limiter", "schedule", "observer"]


@simulated_only
@pytest.mark.parametrize("place", IN_THE_RUN)
def test_9_keyboard_interrupt_in_a_simulated_queue_reaches_the_caller(h, place):
    """9: where user code runs for its caller (simulated), KeyboardInterrupt settles the run as failed and is then
    raised to the caller, so that Ctrl-C works."""
    seen = Seen()
    options, functions = interrupting(h, place)
    queue = started(h, observers=(seen,), **options)
    queue.send(Envelope(**{"invoke": marks(h, "invoke"), "failure_hook": marks(h, "failure"), **functions}))
    with pytest.raises(KeyboardInterrupt):
        queue.advance(1)
    assert (queue.stats().runs_failed, queue.stats().dropped, len(seen.failed)) == (1, 1, 1)
    assert h.labels() == ["failure"]


@simulated_only
@pytest.mark.parametrize("place", AROUND_THE_RUN)
def test_9_keyboard_interrupt_around_a_run_reaches_the_caller(h, place):
    """9: KeyboardInterrupt from user code around a run is raised to the caller too; the run is settled as it had
    ended."""
    options, functions = interrupting(h, place)
    queue = started(h, **options)
    queue.send(Envelope(**{"invoke": marks(h, "invoke"), **functions}))
    with pytest.raises(KeyboardInterrupt):
        queue.run_until_idle()
    stats = queue.stats()
    assert (stats.runs_started, stats.running) == (1, 0)
    check_ledger(queue)


@threads_only
@pytest.mark.parametrize("place", AROUND_THE_RUN)
def test_9_keyboard_interrupt_around_a_run_ends_no_worker_thread(h, place):
    """9: KeyboardInterrupt from user code around a run ends no worker thread."""
    options, functions = interrupting(h, place)
    queue = started(h, **options)
    queue.send(Envelope(**{"invoke": marks(h, "invoke"), **functions}))
    h.until(lambda: queue.stats().runs_started and not queue.stats().running)
    queue.clear()
    goes_on(h, queue)


@simulated_only
def test_9_after_a_keyboard_interrupt_the_queue_goes_on(h):
    """9: after KeyboardInterrupt was raised to the caller, the next call goes on where it was."""
    queue = started(h)
    queue.send(Envelope.once(raises(KeyboardInterrupt)), Envelope.once(marks(h, "next")))
    with pytest.raises(KeyboardInterrupt):
        queue.advance(1)
    finish(queue)
    assert h.labels() == ["next"]
    goes_on(h, queue)


@simulated_only
def test_9_keyboard_interrupt_reaches_whoever_moves_time(h):
    """9: KeyboardInterrupt is raised to the caller of any call that runs user code, such as `join`."""
    queue = started(h)
    queue.send(Envelope.once(raises(KeyboardInterrupt)))
    with pytest.raises(KeyboardInterrupt):
        queue.join()
    assert queue.stats().dropped == 1
    goes_on(h, queue)


def test_9_a_handler_that_cannot_be_named(h):
    """9: the handler is user code in all its parts: one that raises when asked for its name is run all the same."""

    class Handler:
        is_hostile = False

        @property
        def __name__(self):
            if self.is_hostile:
                raise SystemExit
            return "handler"

        def __call__(self, ctx, envelope):
            raise ValueError

        def __repr__(self):
            raise SystemExit

    handler = Handler()
    envelope = Envelope.once(handler)
    handler.is_hostile = True
    queue, seen = run(h, envelope)
    assert (queue.stats().dropped, len(seen.failed)) == (1, 1)
    goes_on(h, queue)


def test_9_other_workers_do_not_notice(h):
    """9: an exception in one worker ends nothing in the others."""
    queue = started(h, workers=3)
    gate = h.gate()
    done = marks(h, "done")

    def waits(ctx, envelope):
        gate.wait(ctx)
        done()

    queue.send(Envelope.once(waits), Envelope.once(waits), *[Envelope.once(raises(SystemExit)) for _ in range(5)])
    h.until(lambda: queue.stats().dropped == 5 and gate.waiting == 2)
    gate.open()
    finish(queue)
    assert h.labels() == ["done", "done"]
    assert (queue.stats().succeeded, queue.stats().workers) == (2, 3)


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit])
def test_9_errors_during_a_drain_do_not_stop_it(h, error):
    """9: no exception ends the drain of a stopping queue."""
    queue, _, report = run_once(h, *[Envelope.once(raises(error)) for _ in range(20)], workers=2)
    assert (queue.stats().dropped, report.kept, report.timed_out) == (20, (), False)
