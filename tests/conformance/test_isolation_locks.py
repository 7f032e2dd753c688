"""Contract sections 3 and 9: user code is never called with a lock held, and the owner of a lock that comes back is
told."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import pytest

import rate_envelope_queue
from rate_envelope_queue import Envelope, QueueStateError, retry_with_backoff

from .harness import check_ledger, threads_only
from .running import finish, marks, raises, run, started


class Uses:
    """A function for any place of user code that uses the queue in every way that does not wait."""

    def __init__(self, h):
        self.h = h
        self.queue = None
        self.sent = Envelope.once(marks(h, "sent from inside"))
        self.cancelled = Envelope.once(marks(h, "never"))
        self.used = 0

    def __call__(self, *args, **kwargs):
        if self.used:
            return
        queue = self.queue
        self.used += 1
        assert queue.stats().state is queue.state
        queue.send(self.cancelled, delay=1000)
        assert queue.cancel(self.cancelled) is True
        queue.pause()
        assert queue.send(self.sent) == 1
        assert self.sent in [view.envelope for view in queue.snapshot()]
        assert len(queue) >= 1
        queue.resume()
        if self.h.kind != "simulated":  # a lock that this thread could enter again would still stop another one
            other = threading.Thread(target=queue.stats, daemon=True)
            other.start()
            other.join(10)
            assert not other.is_alive()
        self.used += 1


def place(h, name, uses):
    """The options of a queue and of an envelope that has *uses* in the place of that name."""

    def limiter(method):
        methods = {"when": lambda self, item, *, now: 0.0, "forget": lambda self, item: None}
        inner = methods[method]

        def call(self, item, **now):
            uses()
            return inner(self, item, **now)

        return type("L", (), {**methods, method: call, "num_requeues": lambda self, item: 0})()

    def schedule(method):
        def first(self, *, now, wall_utc):
            if method == "first":
                uses()
            return now

        def following(self, *, now, **times):
            if method == "next":
                uses()
            return now + 1000

        return type("S", (), {"first": first, "next": following, "jitter": 0.0, "period": None})()

    def stamp_that_uses_when_folded(next):
        uses()
        return next

    def stamp_that_uses_when_called(next):
        def invoke(ctx, envelope):
            uses()
            return next(ctx, envelope)

        return invoke

    observer = {"observers": (type("O", (), {name: lambda self, event: uses()})(),)}
    retried = {"invoke": raises(ValueError), "failure_hook": lambda *args: retry_with_backoff(), "max_attempts": 2}
    return {
        "before_hook": ({}, {"before_hook": uses}),
        "invoke": ({}, {"invoke": uses}),
        "after_hook": ({}, {"after_hook": uses}),
        "success_hook": ({}, {"success_hook": uses}),
        "failure_hook": ({}, {"invoke": raises(ValueError), "failure_hook": uses}),
        "stamp folded": ({}, {"stamps": [stamp_that_uses_when_folded]}),
        "stamp called": ({"stamps": [stamp_that_uses_when_called]}, {}),
        "limiter when": ({"backoff": limiter("when")}, retried),
        "limiter forget": ({"backoff": limiter("forget")}, retried),
        "schedule first": ({}, {"schedule": schedule("first")}),
        "schedule next": ({}, {"schedule": schedule("next")}),
        "on_failed": (observer, {"invoke": raises(ValueError)}),
        "on_hook_failed": (observer, {"after_hook": raises(ValueError)}),
        "on_retried": (observer, retried),
        "on_dropped": (observer, {"invoke": raises(ValueError)}),
    }[name]


PLACES = [
    "before_hook", "invoke", "after_hook", "success_hook", "failure_hook", "stamp folded", "stamp called",
    "limiter when", "limiter forget", "schedule first", "schedule next",
    "on_failed", "on_hook_failed", "on_retried", "on_dropped",
]  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_3_user_code_is_never_called_with_a_lock_held(h, name):
    """3: user code is never called with a lock held: stats(), send(), cancel() and the like of its own queue work
    there."""
    uses = Uses(h)
    options, functions = place(h, name, uses)
    uses.queue = queue = started(h, **options)
    queue.send(Envelope(**{"invoke": marks(h, "invoke"), **functions}))
    h.until(lambda: "sent from inside" in h.labels())
    finish(queue)
    assert uses.used == 2
    assert "never" not in h.labels()
    check_ledger(queue)


@pytest.mark.parametrize("name", ["on_state_changed", "on_stuck"])
def test_3_observers_of_what_is_no_run_are_called_without_a_lock(h, name):
    """3: user code is never called with a lock held: not an observer of a state or of a stuck run either."""
    found = []
    observer = type("O", (), {name: lambda self, event: found.append(queue.stats().accepted)})()
    queue = h.queue(observers=(observer,), stuck_after=h.s(1))
    queue.start()
    gate = h.gate()
    queue.send(Envelope.once(lambda ctx, envelope: gate.wait(ctx), deadline=h.s(3)))
    h.until(lambda: found)
    gate.open()
    finish(queue)


def test_3_a_callback_of_a_future_is_called_without_a_lock(h):
    """3: user code is never called with a lock held: a callback of a submitted future may use the queue."""
    queue = started(h)
    queue.pause()
    future = queue.submit(Envelope.once(lambda ctx, envelope: "done"))
    future.add_done_callback(lambda future: queue.send(Envelope.once(marks(h, future.result()))))
    queue.resume()
    h.until(lambda: h.log)
    finish(queue)
    assert h.labels() == ["done"]


@pytest.mark.parametrize("delay", [0, 0.001])
def test_3_a_payload_may_use_the_queue_when_it_is_freed(h, delay):
    """3: user code is never called with a lock held: the `__del__` of a payload may use the queue."""

    class Payload:
        def __del__(self):
            found.append(queue.stats().accepted)
            queue.send(Envelope.once(marks(h, "sent by __del__")))

    found = []
    queue = started(h)
    queue.send(Envelope.once(marks(h, "run"), Payload()), delay=delay)
    h.until(lambda: found)
    finish(queue)
    assert found == [1]
    assert h.labels() == ["run", "sent by __del__"]


@pytest.mark.parametrize("way", ["clear", "cancel"])
def test_3_a_payload_may_use_the_queue_when_it_is_taken_out(h, way):
    """3: user code is never called with a lock held: not a `__del__` of what `clear` or `cancel` took out."""

    class Payload:
        def __del__(self):
            found.append(queue.stats().returned)

    found = []
    queue = started(h)
    queue.send(Envelope.once(marks(h, "never"), Payload(), key="it"), delay=1000)
    if way == "clear":
        queue.clear()
    else:
        queue.cancel("it")
    h.until(lambda: found)
    assert found == [1]


SOURCE = str(Path(rate_envelope_queue.__file__).parent)


def interrupt_each_line(call, interruption):
    """Make *call* over and over, with *interruption* made before its first, second, third … line in the package, as a
    signal handler could be, until there are no more lines. The number of lines."""
    for nth in range(1, 10_000):
        lines = 0

        def trace(frame, event, arg):
            nonlocal lines
            if not frame.f_code.co_filename.startswith(SOURCE):
                return None
            if event == "line":
                lines += 1
                if lines == nth:  # noqa: B023  the call is over before the next round
                    interruption()
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(before)
        if lines < nth:
            return nth - 1
    raise AssertionError("the call has no end")


@threads_only
@pytest.mark.parametrize("inside", ["stats", "send", "cancel", "snapshot", "len", "pause"])
@pytest.mark.parametrize("outside", ["stats", "send", "cancel", "snapshot", "len", "pause"])
def test_9_re_entry_by_the_owner_of_a_lock_does_not_deadlock(h, outside, inside):
    """9: re-entry by the owner of a lock (a signal handler, `__del__`) is detected and raises QueueStateError instead
    of deadlocking."""
    queue = started(h)
    queue.pause()
    answers = []
    waiting = Envelope.once(marks(h, "never"))
    calls = {
        "stats": queue.stats,
        "send": lambda: queue.send(waiting, delay=1000),
        "cancel": lambda: queue.cancel("nobody"),
        "snapshot": queue.snapshot,
        "len": lambda: len(queue),
        "pause": queue.pause,
    }

    def interruption():
        try:
            calls[inside]()
            answers.append("answered")
        except QueueStateError:
            answers.append("refused")

    lines = h.in_background(lambda: interrupt_each_line(calls[outside], interruption)).result(timeout=60)
    assert len(answers) == lines > 0
    assert set(answers) <= {"answered", "refused"}
    check_ledger(queue)
    queue.clear()
    queue.resume()
    run(h, Envelope.once(marks(h, "afterwards")))
    assert h.labels() == ["afterwards"]


@threads_only
def test_9_a_signal_handler_never_deadlocks(h):
    """9: re-entry by the owner of a lock: a signal handler that uses the queue is answered or refused, whatever it
    interrupts."""
    answers = []

    def handler(number, frame):
        try:
            queue.stats()
            answers.append("answered")
        except QueueStateError:
            answers.append("refused")

    queue = started(h)
    queue.pause()
    envelope = Envelope.once(marks(h, "run"))
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while len(answers) < 50:
            queue.send(envelope)
            queue.stats()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    queue.resume()
    finish(queue)
    assert h.labels() == ["run"]
