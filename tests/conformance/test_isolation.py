"""Contract section 9: no exception of user code ends a worker, a timer or another envelope."""

from __future__ import annotations

import pytest

from rate_envelope_queue import Envelope

from .harness import simulated_only, threads_only
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


@simulated_only
@pytest.mark.parametrize("place", ["before_hook", "invoke"])
def test_9_keyboard_interrupt_in_a_simulated_queue_reaches_the_caller(h, place):
    """9: where user code runs for its caller (simulated), KeyboardInterrupt settles the run as failed and is then
    raised to the caller, so that Ctrl-C works."""
    seen = Seen()
    queue = started(h, observers=(seen,))
    queue.send(
        Envelope.once(
            **{"invoke": marks(h, "invoke"), place: raises(KeyboardInterrupt)}, failure_hook=marks(h, "failure")
        ),
        Envelope.once(marks(h, "next")),
    )
    with pytest.raises(KeyboardInterrupt):
        queue.advance(1)
    assert (queue.stats().runs_failed, queue.stats().dropped, len(seen.failed)) == (1, 1, 1)
    finish(queue)
    assert h.labels() == ["failure", "next"]
    goes_on(h, queue)


@simulated_only
@pytest.mark.parametrize("hook", ["after_hook", "success_hook"])
def test_9_keyboard_interrupt_in_a_later_hook_reaches_the_caller(h, hook):
    """9: KeyboardInterrupt from an after or success hook is raised to the caller; the run had succeeded."""
    queue = started(h)
    queue.send(Envelope.once(marks(h, "run"), **{hook: raises(KeyboardInterrupt)}))
    with pytest.raises(KeyboardInterrupt):
        queue.run_until_idle()
    assert (h.labels(), queue.stats().succeeded) == (["run"], 1)
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
        @property
        def __name__(self):
            raise SystemExit

        def __call__(self, ctx, envelope):
            raise ValueError

        def __repr__(self):
            raise SystemExit

    queue, seen = run(h, Envelope.once(Handler()))
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
