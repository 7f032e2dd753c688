"""Line 70a for clear: each ruling of CONTRACT 7 is a test."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import Cancelled, Envelope, StopMode, retry_now

from .harness import Harness


def noop(ctx: Any, envelope: Any) -> None: ...


def test_what_does_not_run_is_returned_and_listed(h: Harness) -> None:
    """70a clear: what does not run is RETURNED and listed: waiting, delayed and between periods."""
    queue = h.queue()
    queue.start()
    periodic = Envelope.every(h.s(100), h.handler("periodic"))
    queue.send(periodic)
    h.until(lambda: queue.stats().delayed)
    queue.pause()
    ready, delayed = Envelope(h.handler("never")), Envelope(h.handler("never"))
    queue.send(delayed, delay=h.s(50))
    queue.send(ready)
    cleared = queue.clear()
    assert type(cleared) is list
    assert set(cleared) == {periodic, delayed, ready}
    stats = queue.stats()
    assert (stats.occupancy, stats.ready, stats.delayed, stats.returned) == (0, 0, 0, 3)
    queue.resume()
    h.pass_time(3)
    assert h.labels() == ["periodic"]


def test_in_init(h: Harness) -> None:
    """70a clear: in INIT it takes out what was buffered, in order."""
    queue = h.queue()
    envelopes = [Envelope(noop) for _ in range(5)]
    queue.send(*envelopes)
    assert queue.clear() == envelopes
    assert queue.clear() == []
    assert (len(queue), queue.stats().buffered) == (0, 0)


def test_running_entries_as_by_cancel(h: Harness) -> None:
    """70a clear: running entries as by cancel: not interrupted, not listed, a success is SUCCEEDED."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    assert queue.clear() == []
    assert (queue.stats().running, len(queue)) == (1, 1)
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert (queue.stats().succeeded, queue.stats().returned) == (1, 0)


def test_running_entries_that_would_have_gone_on(h: Harness) -> None:
    """70a clear: running entries as by cancel: neither retried nor rescheduled, RETURNED."""
    queue, gate = h.queue(workers=2), h.gate()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark("ran")
        gate.wait(ctx)
        raise ZeroDivisionError

    queue.start()
    queue.send(Envelope(invoke, failure_hook=lambda *_: retry_now()), Envelope.every(h.s(1), invoke))
    h.until(lambda: gate.waiting == 2)
    queue.clear()
    gate.open()
    h.until(lambda: len(queue) == 0)
    h.pass_time(2)
    assert h.labels() == ["ran", "ran"]
    assert queue.stats().returned == 2


def test_a_pending_resend_is_withdrawn(h: Harness) -> None:
    """70a clear: a pending re-send of what runs is withdrawn, as by cancel."""
    queue, gate = h.queue(), h.gate()
    envelope = Envelope(lambda ctx, envelope: h.mark("ran") or gate.wait(ctx))
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    queue.send(envelope)
    queue.clear()
    gate.open()
    h.until(lambda: len(queue) == 0)
    h.pass_time(1)
    assert h.labels() == ["ran"]


def test_after_a_stop_it_takes_out_what_was_kept(h: Harness) -> None:
    """70a clear: after a stop it takes out what was kept, so that the next start runs none of it."""
    queue = h.queue()
    queue.start()
    queue.pause()
    envelopes = [Envelope(h.handler("never")) for _ in range(3)]
    queue.send(*envelopes)
    assert queue.stop(StopMode.STOP).kept == tuple(envelopes)
    assert queue.clear() == envelopes
    queue.resume()
    queue.start()
    h.pass_time(1)
    assert h.labels() == []


def test_futures_raise_cancelled(h: Harness) -> None:
    """70a clear: the futures of cleared entries raise Cancelled."""
    queue = h.queue()
    futures = [queue.submit(Envelope(noop)) for _ in range(3)]
    queue.clear()
    for future in futures:
        with pytest.raises(Cancelled):
            future.result(20)


def test_it_frees_room(h: Harness) -> None:
    """70a clear: what was cleared leaves its room to others, and the same may be sent again."""
    queue = h.queue(capacity=2)
    envelopes = [Envelope(h.handler(number)) for number in range(2)]
    queue.send(*envelopes)
    queue.clear()
    assert queue.send(*envelopes) == 2
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [0, 1]


def test_an_empty_queue(h: Harness) -> None:
    """70a clear: of an empty queue, in any state, an empty list."""
    queue = h.queue()
    assert queue.clear() == []
    queue.start()
    assert queue.clear() == []
    queue.stop()
    assert queue.clear() == []
    queue.terminate()
    assert queue.clear() == []
