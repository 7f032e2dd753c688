"""Line 70a for order and time: the sentences of CONTRACT 5."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rate_envelope_queue import Envelope, StopMode
from rate_envelope_queue.testing import VirtualClock
from rate_envelope_queue.workqueue import TokenBucket

from .harness import Harness, simulated_only, virtual_only


def test_fifo(h: Harness) -> None:
    """70a order: FIFO within a priority, over single sends and batches."""
    queue = h.queue()
    queue.start()
    queue.pause()
    for number in range(0, 10, 2):
        queue.send(Envelope(h.handler(number)), Envelope(h.handler(number + 1)))
    queue.resume()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == list(range(10))


def test_a_larger_priority_first(h: Harness) -> None:
    """70a order: a larger number first; FIFO within each."""
    queue = h.queue()
    for number, priority in enumerate([0, 5, -1, 5, 0, 9]):
        queue.send(Envelope(h.handler(number), priority=priority))
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [5, 1, 3, 0, 4, 2]


def test_a_priority_that_comes_late(h: Harness) -> None:
    """70a order: an urgent envelope passes all that wait already, but interrupts nothing."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx) or h.mark("running")))
    h.until(lambda: gate.waiting)
    queue.send(*(Envelope(h.handler(number)) for number in range(3)))
    queue.send(Envelope(h.handler("urgent"), priority=1))
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["running", "urgent", 0, 1, 2]


@virtual_only
def test_ties_in_due_time(h: Harness) -> None:
    """70a order: ties in due time in the order in which they were scheduled."""
    queue = h.queue()
    queue.start()
    for number in range(50):
        queue.send(Envelope(h.handler(number)), delay=5)
    h.pass_time(5)
    assert h.log == [(5.0, number) for number in range(50)]


def test_a_batch_with_a_delay_keeps_its_order(h: Harness) -> None:
    """70a order: one batch sent with a delay has one due time, and runs in its order."""
    queue = h.queue()
    queue.start()
    queue.send(*(Envelope(h.handler(number)) for number in range(20)), delay=h.s(2))
    h.until(lambda: len(queue) == 0)
    assert h.labels() == list(range(20))


def test_earlier_due_times_first(h: Harness) -> None:
    """70a order: what is due earlier runs earlier, in whatever order it was sent."""
    queue = h.queue()
    queue.start()
    for delay in (9, 3, 6):
        queue.send(Envelope(h.handler(delay)), delay=h.s(delay))
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [3, 6, 9]


def test_never_early(h: Harness) -> None:
    """70a order: a delayed entry is never early."""
    queue = h.queue(workers=2)
    queue.start()
    delays = [0.1 * number for number in range(1, 30)]
    sent: dict[float, float] = {}
    for delay in delays:
        sent[delay] = h.now()
        queue.send(Envelope(h.handler(delay)), delay=h.s(delay))
    h.until(lambda: len(queue) == 0)
    for at, delay in h.log:
        assert at - sent[delay] == h.about(delay)


def test_a_delay_of_zero_means_at_once(h: Harness) -> None:
    """70a order: delay=0 means at once: behind what is ready already, as a plain send."""
    queue = h.queue()
    queue.send(Envelope(h.handler("first")))
    queue.send(Envelope(h.handler("second")), delay=0)
    queue.send(Envelope(h.handler("third")))
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["first", "second", "third"]


class ErraticClock(VirtualClock):
    """Monotonic time that flows, and wall time that jumps by years whenever it is read."""

    year = 2020

    def wall_utc(self) -> datetime:
        self.year = 5000 - self.year
        return datetime(self.year, 1, 1, tzinfo=UTC)


@simulated_only
def test_the_wall_clock_moves_nothing(h: Harness) -> None:
    """70a order: only the monotonic clock decides; a change of the wall clock moves no delay and no interval."""
    clock = ErraticClock()
    began_at = clock.now()
    queue = h.queue(clock=clock)
    ran: list[tuple[float, str]] = []

    def invoke(ctx: Any, envelope: Any) -> None:
        ran.append((clock.now() - began_at, envelope.payload))

    queue.start()
    queue.send(Envelope(invoke, payload="delayed"), delay=3)
    queue.send(Envelope.every(2, invoke, "periodic"))
    queue.advance(4)
    assert ran == [(0, "periodic"), (2, "periodic"), (3, "delayed"), (4, "periodic")]


def starts(h: Harness, queue: Any, count: int) -> list[float]:
    """When *count* envelopes that take no time were started, counted from the start of the queue."""
    queue.send(*(Envelope(h.handler("start")) for _ in range(count)))
    began_at = h.now()
    queue.start()
    h.until(lambda: len(h.log) == count)
    return [at - began_at for at, _ in h.log]


def test_start_rate(h: Harness) -> None:
    """70a order: start_rate is runs per second, burst 1."""
    queue = h.queue(workers=4, start_rate=1 / h.s(0.5))
    assert starts(h, queue, 6) == [h.about(number * 0.5) for number in range(6)]


def test_start_rate_with_a_burst(h: Harness) -> None:
    """70a order: or a TokenBucket, with its burst."""
    queue = h.queue(workers=4, start_rate=TokenBucket(1 / h.s(1), burst=3))
    assert starts(h, queue, 5) == [h.about(at) for at in (0, 0, 0, 1, 2)]


def test_start_rate_is_obeyed_in_drain(h: Harness) -> None:
    """70a order: start_rate is obeyed in DRAIN too, which then lasts as long as the rate needs."""
    queue = h.queue(workers=4, start_rate=1 / h.s(1))
    queue.send(*(Envelope(h.handler("start")) for _ in range(5)))
    began_at = h.now()
    queue.start()
    report = queue.stop()
    assert report.kept == ()
    assert [at - began_at for at, _ in h.log] == [h.about(number) for number in range(5)]


@virtual_only
def test_a_token_is_reserved_for_a_live_head(h: Harness) -> None:
    """70a order: a token is reserved only for a live head: a cancelled entry costs none."""
    queue = h.queue(start_rate=1)
    queue.start()
    queue.send(Envelope(h.handler("first")))
    h.pass_time(0.5)
    doomed = [Envelope(h.handler("never")) for _ in range(5)]
    queue.send(*doomed, Envelope(h.handler("last")))
    for envelope in doomed:
        queue.cancel(envelope)
    h.pass_time(5)
    assert h.log == [(0.0, "first"), (1.0, "last")]


@virtual_only
def test_a_token_survives_pause(h: Harness) -> None:
    """70a order: a reserved token survives pause."""
    queue = h.queue(start_rate=0.1)
    queue.start()
    queue.send(Envelope(h.handler("first")), Envelope(h.handler("second")))
    h.pass_time(5)
    queue.pause()
    h.pass_time(1)
    queue.resume()
    h.pass_time(20)
    assert h.log == [(0.0, "first"), (10.0, "second")]


@virtual_only
def test_a_token_survives_stop(h: Harness) -> None:
    """70a order: a reserved token survives stop and start."""
    queue = h.queue(start_rate=0.1)
    queue.start()
    queue.send(Envelope(h.handler("first")), Envelope(h.handler("second")))
    h.pass_time(5)
    queue.stop(StopMode.STOP)
    h.pass_time(1)
    queue.start()
    h.pass_time(20)
    assert h.log == [(0.0, "first"), (10.0, "second")]


def test_a_subclass_of_token_bucket_is_refused(h: Harness) -> None:
    """70a order: subclasses of TokenBucket are refused as start_rate."""

    class MyBucket(TokenBucket):
        pass

    with pytest.raises((TypeError, ValueError), match="start_rate"):
        h.queue(start_rate=MyBucket(1, burst=1))
