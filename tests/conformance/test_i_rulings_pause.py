"""Line 70a for pause and resume: each ruling of CONTRACT 7 is a test."""

from __future__ import annotations

from typing import Any

from rate_envelope_queue import Envelope, QueueState, StopMode

from .harness import Gate, Harness


def noop(ctx: Any, envelope: Any) -> None: ...


def running(h: Harness) -> tuple[Any, Gate]:
    """A queue with one entry that runs until the gate is opened."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx) or h.mark("running")))
    h.until(lambda: gate.waiting)
    return queue, gate


def test_nothing_starts(h: Harness) -> None:
    """70a pause: while paused nothing starts; sends are accepted and wait; resume starts them in order."""
    queue = h.queue()
    queue.start()
    queue.pause()
    assert queue.send(*(Envelope(h.handler(number)) for number in range(3))) == 3
    h.pass_time(2)
    assert (h.labels(), queue.stats().ready, queue.state) == ([], 3, QueueState.RUNNING)
    queue.resume()
    h.until(lambda: h.labels() == [0, 1, 2])


def test_what_runs_goes_on(h: Harness) -> None:
    """70a pause: what runs is not interrupted."""
    queue, gate = running(h)
    queue.send(Envelope(h.handler("next")))
    queue.pause()
    gate.open()
    h.until(lambda: h.labels() == ["running"])
    h.pass_time(1)
    assert h.labels() == ["running"]
    queue.resume()
    h.until(lambda: h.labels() == ["running", "next"])


def test_what_becomes_due_waits(h: Harness) -> None:
    """70a pause: what becomes due while paused runs once after resume."""
    queue = h.queue()
    queue.start()
    queue.pause()
    queue.send(Envelope(h.handler("delayed")), delay=h.s(1))
    queue.send(Envelope.every(h.s(1000), h.handler("periodic")))
    h.pass_time(3)
    assert h.labels() == []
    queue.resume()
    h.until(lambda: sorted(h.labels()) == ["delayed", "periodic"])
    h.pass_time(2)
    assert len(h.log) == 2


def test_survives_stop_and_start(h: Harness) -> None:
    """70a pause: survives stop and start."""
    queue = h.queue()
    queue.start()
    queue.pause()
    queue.send(Envelope(h.handler("ran")))
    queue.stop()
    queue.start()
    h.pass_time(1)
    assert h.labels() == []
    queue.resume()
    h.until(lambda: h.labels() == ["ran"])


def test_before_the_start(h: Harness) -> None:
    """70a pause: a queue paused in INIT starts paused."""
    queue = h.queue()
    queue.pause()
    queue.send(Envelope(h.handler("ran")))
    queue.start()
    h.pass_time(1)
    assert h.labels() == []
    queue.resume()
    h.until(lambda: h.labels() == ["ran"])


def test_resumed_while_stopped(h: Harness) -> None:
    """70a pause: a queue resumed while stopped starts unpaused."""
    queue = h.queue()
    queue.start()
    queue.pause()
    queue.send(Envelope(h.handler("ran")))
    queue.stop()
    queue.resume()
    queue.start()
    h.until(lambda: h.labels() == ["ran"])


def test_resume_during_the_drain_of_a_paused_queue(h: Harness) -> None:
    """70a pause: `resume` during the drain of a paused queue makes it drain."""
    queue, gate = running(h)
    queue.send(Envelope(h.handler("waited")))
    queue.pause()
    queue.stop(StopMode.DRAIN, wait=False)
    queue.resume()
    gate.open()
    report = queue.stop()
    assert h.labels() == ["running", "waited"]
    assert (report.kept, report.succeeded) == ((), 2)


def test_pause_during_a_drain(h: Harness) -> None:
    """70a pause: DRAIN of a paused queue keeps what waits: also when it is paused during the drain."""
    queue, gate = running(h)
    waiting = Envelope(h.handler("never"))
    queue.send(waiting)
    queue.stop(StopMode.DRAIN, wait=False)
    queue.pause()
    gate.open()
    report = queue.stop()
    assert h.labels() == ["running"]
    assert report.kept == (waiting,)


def test_resume_during_a_stop_starts_nothing(h: Harness) -> None:
    """70a pause: `resume` during a STOP starts nothing."""
    queue, gate = running(h)
    waiting = Envelope(h.handler("never"))
    queue.send(waiting)
    queue.pause()
    queue.stop(StopMode.STOP, wait=False)
    queue.resume()
    gate.open()
    assert queue.stop().kept == (waiting,)
    assert h.labels() == ["running"]


def test_twice(h: Harness) -> None:
    """70a pause: it does not count: two pauses are ended by one resume, and a resume too many does nothing."""
    queue = h.queue()
    queue.start()
    queue.resume()
    queue.pause()
    queue.pause()
    queue.send(Envelope(h.handler("ran")))
    queue.resume()
    h.until(lambda: h.labels() == ["ran"])


def test_a_future_may_be_cancelled_meanwhile(h: Harness) -> None:
    """70a pause: what waits in a paused queue may be cancelled, cleared and coalesced as ever."""
    queue = h.queue()
    queue.start()
    queue.pause()
    future = queue.submit(Envelope(noop))
    envelope = Envelope(noop)
    queue.send(envelope)
    assert queue.send(envelope) == 0
    assert future.cancel()
    assert queue.clear() == [envelope]


def test_from_a_handler(h: Harness) -> None:
    """70a pause: a handler may pause its own queue: nothing starts after it."""
    queue = h.queue()
    queue.send(Envelope(lambda ctx, envelope: ctx.queue.pause()), Envelope(h.handler("next")))
    queue.start()
    h.until(lambda: queue.stats().succeeded)
    h.pass_time(1)
    assert h.labels() == []
    queue.resume()
    h.until(lambda: h.labels() == ["next"])


def test_the_capacity_stays_taken(h: Harness) -> None:
    """70a pause: a waiter for room is not helped by time alone; it is by resume."""
    queue = h.queue(capacity=1)
    queue.start()
    queue.pause()
    queue.send(Envelope(h.handler("first")))
    second = h.in_background(lambda: queue.send_wait(Envelope(h.handler("second"))))
    h.pass_time(2)
    assert not second.done
    queue.resume()
    second.result()
    h.until(lambda: h.labels() == ["first", "second"])
