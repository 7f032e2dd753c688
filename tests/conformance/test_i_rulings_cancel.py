"""Line 70a for cancel: each ruling of CONTRACT 7 is a test."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import (
    Cancelled,
    Envelope,
    QueueState,
    RetryEnvelope,
    StopEnvelope,
    StopMode,
    drop,
    retry_after,
    retry_now,
)

from .harness import Gate, Harness


def noop(ctx: Any, envelope: Any) -> None: ...


def running(h: Harness, ending: Any = None, **options: Any) -> tuple[Any, Envelope, Gate]:
    """A queue, one of its envelopes that runs, and the gate that lets it go on to its *ending*."""
    queue, gate = h.queue(), h.gate()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark("ran")
        gate.wait(ctx)
        if ending is not None and len(h.log) == 1:
            raise ending

    envelope = Envelope(invoke, **options)
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    return queue, envelope, gate


def test_a_waiting_entry(h: Harness) -> None:
    """70a cancel: waiting: outcome RETURNED, True; it never runs."""
    queue = h.queue()
    envelope, other = Envelope(h.handler("never")), Envelope(h.handler("other"))
    queue.send(envelope, other)
    assert queue.cancel(envelope) is True
    assert (len(queue), queue.stats().returned) == (1, 1)
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["other"]


def test_a_delayed_entry(h: Harness) -> None:
    """70a cancel: delayed: outcome RETURNED, True; it never runs."""
    queue = h.queue()
    envelope = Envelope(h.handler("never"))
    queue.start()
    queue.send(envelope, delay=h.s(2))
    assert queue.cancel(envelope) is True
    assert (len(queue), queue.stats().returned, queue.stats().delayed) == (0, 1, 0)
    h.pass_time(4)
    assert h.labels() == []


def test_a_periodic_between_its_runs(h: Harness) -> None:
    """70a cancel: a periodic between its runs: outcome RETURNED, no further run."""
    queue = h.queue()
    envelope = Envelope.every(h.s(4), h.handler("ran"))
    queue.start()
    queue.send(envelope)
    h.until(lambda: queue.stats().delayed)
    assert queue.cancel(envelope) is True
    runs = len(h.log)
    h.pass_time(6)
    assert len(h.log) == runs
    assert (len(queue), queue.stats().returned) == (0, 1)


def test_unknown(h: Harness) -> None:
    """70a cancel: unknown: False."""
    queue = h.queue()
    envelope = Envelope(noop)
    assert queue.cancel(envelope) is False
    assert queue.cancel("no such key") is False
    queue.start()
    queue.send(envelope)
    h.until(lambda: len(queue) == 0)
    assert queue.cancel(envelope) is False
    assert queue.stats().returned == 0


def test_by_key(h: Harness) -> None:
    """70a cancel: takes an envelope or a key; an envelope with a key stands for its key."""
    queue = h.queue()
    queue.send(Envelope(noop, key="a"), Envelope(noop, key="b"))
    assert queue.cancel("a") is True
    assert queue.cancel(Envelope(noop, key="b")) is True
    assert len(queue) == 0


def test_twice(h: Harness) -> None:
    """70a cancel: a second cancel finds nothing any more."""
    queue = h.queue()
    envelope = Envelope(noop)
    queue.send(envelope)
    assert [queue.cancel(envelope), queue.cancel(envelope)] == [True, False]


def test_running_is_not_interrupted(h: Harness) -> None:
    """70a cancel: running: not interrupted, True: a success is SUCCEEDED."""
    queue, envelope, gate = running(h)
    assert queue.cancel(envelope) is True
    assert queue.stats().running == 1
    gate.open()
    h.until(lambda: len(queue) == 0)
    stats = queue.stats()
    assert (stats.succeeded, stats.returned, stats.runs_cancelled) == (1, 0, 0)


def test_running_context_is_not_cancelled(h: Harness) -> None:
    """70a cancel: running: its context does not end by it."""
    queue, gate = h.queue(), h.gate()
    envelope = Envelope(lambda ctx, envelope: gate.wait(ctx) or h.mark(ctx.done or ctx.cancelled))
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    queue.cancel(envelope)
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [False]


def test_running_that_stops(h: Harness) -> None:
    """70a cancel: running: a stop is STOPPED."""
    queue, envelope, gate = running(h, StopEnvelope())
    assert queue.cancel(envelope) is True
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert (queue.stats().stopped, queue.stats().returned) == (1, 0)


def test_running_that_is_dropped(h: Harness) -> None:
    """70a cancel: running: a drop is DROPPED, and a dead letter."""
    queue, envelope, gate = running(h, ZeroDivisionError(), failure_hook=lambda *_: drop("no use"))
    assert queue.cancel(envelope) is True
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert (queue.stats().dropped, queue.stats().returned) == (1, 0)
    queue.join()
    assert [letter.envelope for letter in queue.dead_letters()] == [envelope]


@pytest.mark.parametrize("decision", [retry_now(), retry_after(0.001)])
def test_running_that_would_be_retried(h: Harness, decision: Any) -> None:
    """70a cancel: running: not retried; what would have gone on is RETURNED."""
    queue, envelope, gate = running(h, ZeroDivisionError(), failure_hook=lambda *_: decision)
    assert queue.cancel(envelope) is True
    gate.open()
    h.until(lambda: len(queue) == 0)
    h.pass_time(1)
    assert h.labels() == ["ran"]
    assert (queue.stats().returned, queue.stats().dropped) == (1, 0)


def test_running_that_raised_retry_envelope(h: Harness) -> None:
    """70a cancel: running: a RetryEnvelope would have gone on, so it is RETURNED."""
    queue, envelope, gate = running(h, RetryEnvelope(0))
    assert queue.cancel(envelope) is True
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert (h.labels(), queue.stats().returned) == (["ran"], 1)


@pytest.mark.parametrize("ending", [None, ZeroDivisionError()])
def test_a_running_periodic(h: Harness, ending: Any) -> None:
    """70a cancel: a running periodic is not rescheduled; since it would have gone on, RETURNED."""
    queue, envelope, gate = running(h, ending, interval=h.s(1))
    assert queue.cancel(envelope) is True
    gate.open()
    h.until(lambda: len(queue) == 0)
    h.pass_time(3)
    assert h.labels() == ["ran"]
    assert (queue.stats().returned, queue.stats().succeeded) == (1, 0)


def test_send_then_cancel(h: Harness) -> None:
    """70a cancel: the last of send and cancel wins: re-sent while running, then cancelled: no run more."""
    queue, envelope, gate = running(h)
    queue.send(envelope)
    assert queue.cancel(envelope) is True
    gate.open()
    h.until(lambda: len(queue) == 0)
    h.pass_time(1)
    assert h.labels() == ["ran"]
    assert queue.stats().succeeded == 1


def test_cancel_then_send(h: Harness) -> None:
    """70a cancel: the last of send and cancel wins: cancelled while running, then re-sent: exactly one run more."""
    queue, envelope, gate = running(h)
    assert queue.cancel(envelope) is True
    assert queue.send(envelope) == 0
    gate.open()
    h.until(lambda: len(queue) == 0)
    h.pass_time(1)
    assert h.labels() == ["ran", "ran"]


def test_cancel_then_send_of_a_waiting_entry(h: Harness) -> None:
    """70a cancel: cancelled while waiting and sent again: a new entry at a new place, which runs once."""
    queue = h.queue()
    envelope, other = Envelope(h.handler("again")), Envelope(h.handler("other"))
    queue.send(envelope, other)
    queue.cancel(envelope)
    assert queue.send(envelope) == 1
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["other", "again"]
    assert (queue.stats().accepted, queue.stats().returned, queue.stats().succeeded) == (3, 1, 2)


def test_it_frees_room(h: Harness) -> None:
    """70a cancel: a cancelled entry leaves its place to another."""
    queue = h.queue(capacity=1)
    envelope = Envelope(noop)
    queue.send(envelope)
    queue.cancel(envelope)
    assert queue.send(Envelope(noop)) == 1


def test_what_was_submitted(h: Harness) -> None:
    """70a cancel: the future of a cancelled entry raises Cancelled."""
    queue = h.queue()
    envelope = Envelope(noop)
    future = queue.submit(envelope)
    queue.cancel(envelope)
    with pytest.raises(Cancelled):
        future.result(20)


def test_what_was_submitted_and_runs(h: Harness) -> None:
    """70a cancel: cancelled while running, the future gets what the run returns."""
    queue, gate = h.queue(), h.gate()
    envelope = Envelope(lambda ctx, envelope: gate.wait(ctx) or "value")
    queue.start()
    future = queue.submit(envelope)
    h.until(lambda: gate.waiting)
    queue.cancel(envelope)
    gate.open()
    assert future.result(20) == "value"


def test_in_every_state(h: Harness) -> None:
    """70a cancel: it works in INIT, running, stopped; in TERMINATED there is nothing left."""
    queue = h.queue()
    envelopes = [Envelope(noop) for _ in range(3)]
    queue.send(envelopes[0])
    assert queue.cancel(envelopes[0])
    queue.start()
    queue.pause()
    queue.send(*envelopes[1:])
    assert queue.cancel(envelopes[1])
    assert queue.stop().kept == (envelopes[2],)
    assert queue.cancel(envelopes[2])
    assert queue.terminate().returned == ()
    assert queue.cancel(envelopes[2]) is False


def test_the_last_ready_one_of_a_drain(h: Harness) -> None:
    """70a cancel: when the last ready entry is cancelled, the drain comes to its end."""
    queue, _, gate = running(h)
    waiting = Envelope(h.handler("never"))
    queue.send(waiting)
    queue.stop(StopMode.DRAIN, wait=False)
    assert queue.cancel(waiting) is True
    gate.open()
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert h.labels() == ["ran"]
    assert queue.last_report.kept == ()


def test_from_its_own_handler(h: Harness) -> None:
    """70a cancel: a periodic may cancel itself from its handler: this run is its last."""
    queue = h.queue()
    queue.start()
    queue.send(Envelope.every(h.s(1), lambda ctx, envelope: h.mark(ctx.queue.cancel(envelope))))
    h.until(lambda: len(queue) == 0)
    h.pass_time(3)
    assert h.labels() == [True]


def test_cancelled_during_its_run_then_stop(h: Harness) -> None:
    """70a cancel: a periodic cancelled during its run, then a stop: RETURNED, not kept."""
    queue, envelope, gate = running(h, interval=h.s(1))
    queue.cancel(envelope)
    queue.stop(wait=False)
    gate.open()
    report = queue.stop()
    assert report.kept == ()
    assert queue.stats().returned == 1
