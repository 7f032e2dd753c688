"""Contract section 9: limiters, schedules, observers, keys and payloads are user code too."""

from __future__ import annotations

import threading

import pytest

from rate_envelope_queue import Envelope, EnvelopeQueueError, retry_with_backoff
from rate_envelope_queue.workqueue import ExponentialBackoff

from .harness import check_ledger, threads_only
from .hostile import ERRORS
from .running import Seen, finish, goes_on, marks, raises, run, started

ODD = [ValueError, SystemExit, ERRORS["__str__ exits"]]


class Limiter:
    """A backoff limiter that raises where it is told to, or gives what it is told to."""

    def __init__(self, when=0.0, forget=None):
        self._when = when
        self._forget = forget

    def when(self, item, *, now):
        return self._when() if callable(self._when) else self._when

    def forget(self, item):
        if self._forget is not None:
            self._forget()

    def num_requeues(self, item):
        return 0


def fails_once(h):
    def invoke(ctx, envelope):
        h.mark("run")
        if ctx.attempt == 1:
            raise ValueError

    return Envelope.once(invoke, failure_hook=lambda *args: retry_with_backoff())


def fails_first(h, limiter):
    """Fail once under that limiter. The queue, where the entry has been dropped or waits for its next run."""
    queue = started(h, backoff=limiter)
    queue.send(fails_once(h))
    h.until(lambda: queue.stats().runs_failed == 1)
    stats = queue.stats()
    assert stats.dropped + stats.occupancy == 1
    queue.clear()
    return queue


@pytest.mark.parametrize("error", ODD)
def test_9_a_limiter_that_raises_in_when(h, error):
    """9: limiters are user code: one that raises ends no worker, and the entry is dropped or waits."""
    goes_on(h, fails_first(h, Limiter(when=raises(error))))


@pytest.mark.parametrize("error", ODD)
def test_9_a_limiter_that_raises_in_forget(h, error):
    """9: limiters are user code: one that raises in `forget` changes nothing of the outcome."""
    queue, _ = run(h, fails_once(h), backoff=Limiter(forget=raises(error)))
    assert (h.labels(), queue.stats().succeeded) == (["run", "run"], 1)
    goes_on(h, queue)


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), -5, "soon"], ids=str)
def test_9_a_limiter_that_answers_nonsense(h, answer):
    """9: limiters are user code: an answer that is no duration ends no worker, nor breaks the order of due times."""
    goes_on(h, fails_first(h, Limiter(when=answer)))


class Erratic:
    """A schedule that runs at once, and then answers with a call of *next*."""

    jitter = 0.0
    period = None

    def __init__(self, first, next):
        self._first = first
        self._next = next

    def first(self, *, now, wall_utc):
        return self._first(now)

    def next(self, *, now, **times):
        return self._next(now)


@pytest.mark.parametrize("error", ODD)
def test_9_a_schedule_that_raises_in_next(h, error):
    """9: schedules are user code: one that raises after a run ends no worker and no other envelope."""
    seen = Seen()
    queue = started(h, observers=(seen,))
    queue.send(Envelope(marks(h, "periodic"), schedule=Erratic(lambda now: now, raises(error))))
    h.until(lambda: queue.stats().runs_started >= 1 and queue.stats().running == 0)
    assert h.labels() == ["periodic"]
    queue.send(Envelope.once(marks(h, "next")))
    h.until(lambda: "next" in h.labels())
    finish(queue)
    assert len(seen.hook_failed) == 1
    assert len(seen.failed) == queue.stats().runs_failed
    check_ledger(queue)


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), "soon", None], ids=str)
def test_9_a_schedule_that_answers_nonsense(h, answer):
    """9: schedules are user code: an answer that is no instant ends no worker, nor breaks the order of due times."""
    queue = started(h)
    queue.send(Envelope(marks(h, "periodic"), schedule=Erratic(lambda now: now, lambda now: answer)))
    h.until(lambda: queue.stats().runs_started >= 1 and queue.stats().running == 0)
    queue.send(Envelope.once(marks(h, "later")), delay=h.s(2))
    queue.send(Envelope.once(marks(h, "sooner")), delay=h.s(1))
    h.until(lambda: "later" in h.labels())
    assert [label for label in h.labels() if label != "periodic"] == ["sooner", "later"]
    check_ledger(queue)


def test_9_a_schedule_that_raises_in_first_refuses_the_send(h):
    """9: a schedule that raises when asked for the first run: the sender is told, and nothing was accepted."""
    queue = started(h)
    with pytest.raises((ValueError, EnvelopeQueueError)):
        queue.send(Envelope(marks(h, "run"), schedule=Erratic(raises(ValueError), lambda now: now)))
    assert (queue.stats().accepted, len(queue)) == (0, 0)
    goes_on(h, queue)


@pytest.mark.parametrize("method", ["on_failed", "on_hook_failed", "on_retried", "on_dropped", "on_state_changed"])
@pytest.mark.parametrize("error", ODD)
def test_9_an_observer_that_raises(h, method, error):
    """9: an observer that raises ends nothing; it is not called again, and the other observers are."""
    calls = []

    def broken(self, event):
        calls.append(event)
        raise error()

    first, second = type("Broken", (), {method: broken})(), Seen()
    queue = started(h, observers=(first, second), backoff=ExponentialBackoff(0.001, 1))
    bad = {"failure_hook": lambda ctx, envelope, error: retry_with_backoff() if ctx.attempt == 1 else "nonsense"}
    queue.send(*[Envelope.once(raises(KeyError), max_attempts=3, **bad) for _ in "ab"])
    finish(queue)
    assert len(calls) == 1
    assert (len(second.failed), len(second.retried), len(second.hook_failed), len(second.dropped)) == (4, 2, 2, 2)
    goes_on(h, queue)


@threads_only
def test_9_an_observer_that_raises_in_two_workers_at_once(h):
    """9: an observer that raises in two threads at the same time ends neither, and changes nothing of their runs."""
    both = threading.Barrier(2, timeout=20)

    class Broken:
        def on_failed(self, event):
            both.wait()
            raise KeyError

    queue = started(h, workers=2, observers=(Broken(),))
    queue.send(*[fails_once(h) for _ in range(6)])
    finish(queue)
    assert (queue.stats().succeeded, queue.stats().dropped) == (6, 0)
    goes_on(h, queue)


def test_9_a_payload_and_an_id_that_cannot_be_shown(h):
    """9: what is in an envelope may be hostile too: nothing of it is needed to settle a run."""

    class Hostile:
        def __repr__(self):
            raise SystemExit

        __str__ = __eq__ = __hash__ = __bool__ = __len__ = __repr__

    queue, _ = run(h, Envelope.once(raises(ValueError), payload=Hostile(), id=Hostile(), type="x"))
    assert queue.stats().dropped == 1
    goes_on(h, queue)


def test_9_a_key_that_cannot_be_compared(h):
    """9: a key whose comparison raises: the sender is told, nothing changed, and the queue goes on."""

    class Key:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise ZeroDivisionError

    queue = started(h)
    gate = h.gate()
    queue.send(Envelope.once(lambda ctx, envelope: gate.wait(ctx), key=Key()))
    h.until(lambda: gate.waiting)
    with pytest.raises(ZeroDivisionError):
        queue.send(Envelope.once(marks(h, "never"), key=Key()))
    assert len(queue) == 1
    gate.open()
    finish(queue)
    assert queue.stats().accepted == queue.stats().succeeded == 1
    goes_on(h, queue)
