"""Contract section 3: what cancelled means, and what it does not."""

from __future__ import annotations

import asyncio
import concurrent.futures

import pytest

from rate_envelope_queue import DeadlineExceeded, Envelope, retry_after

from .harness import cooperative_only
from .running import Seen, marks, run, started


@cooperative_only(see="test_asyncio_cancelling")
def test_3_a_handler_that_returns_under_a_cancelled_context_has_succeeded(h):
    """3: a handler that returns has succeeded, also when its context was cancelled."""

    def invoke(ctx, envelope):
        h.mark("in")
        ctx.wait()
        return "in spite of it"

    queue = started(h)
    future = queue.submit(Envelope.once(invoke, success_hook=marks(h, "success")))
    h.until(lambda: h.log)
    report = queue.terminate()
    assert future.result(timeout=0) == "in spite of it"
    assert h.labels() == ["in", "success"]
    assert (report.returned, queue.stats().succeeded, queue.stats().runs_cancelled) == ((), 1, 0)


@cooperative_only(see="test_asyncio_cancelling")
def test_3_another_error_under_a_cancelled_context_is_a_failure(h):
    """3: any other error is a failure, and its failure hook gets a context that is done."""
    found = []

    def invoke(ctx, envelope):
        h.mark("in")
        ctx.wait()
        raise ValueError

    def failure(ctx, envelope, error):
        found.append((type(error), ctx.done))

    queue = started(h)
    queue.send(Envelope.once(invoke, failure_hook=failure))
    h.until(lambda: h.log)
    queue.terminate()
    assert found == [(ValueError, True)]
    assert (queue.stats().dropped, queue.stats().runs_failed, queue.stats().runs_cancelled) == (1, 1, 0)


@pytest.mark.parametrize("periodic", [False, True], ids=["one-off", "periodic"])
def test_3_a_cancelled_run_is_kept_due_at_once_and_its_attempt_not_counted(h, periodic):
    """3: cancelled because the queue stops: kept, due at once, attempt not counted."""
    attempts = []

    def invoke(ctx, envelope):
        attempts.append(ctx.attempt)
        h.mark("run")
        if len(attempts) == 1:
            raise ValueError
        if len(attempts) == 2:
            ctx.wait()
            ctx.check()

    queue = started(h, observers=(Seen(),))
    envelope = Envelope(invoke, interval=h.s(1) if periodic else None, failure_hook=lambda *args: retry_after(h.s(1)))
    queue.send(envelope)
    h.until(lambda: len(h.log) == 2)
    assert queue.stop(timeout=0).kept == (envelope,)
    assert queue.stats().runs_cancelled == 1
    restarted = h.now()
    queue.start()
    h.until(lambda: len(h.log) == 3)
    assert h.log[2][0] - restarted == h.about(0)
    assert attempts == [1, 2, 2]


@pytest.mark.parametrize(
    "error", [TimeoutError, asyncio.CancelledError, concurrent.futures.CancelledError, DeadlineExceeded]
)
def test_3_the_users_own_timeout_or_cancellation_is_the_users(h, error):
    """3: the user's own TimeoutError or CancelledError is never taken for ours: it is an ordinary failure, and the
    failure hook gets that very object."""
    mine, got = error("mine"), []

    def invoke(ctx, envelope):
        raise mine

    queue, _ = run(h, Envelope.once(invoke, failure_hook=lambda ctx, envelope, error: got.append(error)))
    assert got == [mine]
    assert (queue.stats().runs_failed, queue.stats().runs_cancelled, queue.stats().dropped) == (1, 0, 1)
