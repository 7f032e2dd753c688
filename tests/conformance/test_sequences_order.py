"""The sequences that bite, 15 to 23: places in the order, cancels, resizes, futures, and stops that follow a stop."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rate_envelope_queue import Cancelled, Envelope, QueueState

from .harness import Harness, blocking_only
from .sequences import FOREVER, begin, held, waits_for_its_context


def test_s15_the_first_priority_among_debris(h: Harness) -> None:
    """S15: the first envelope with a priority comes when the ready queue holds cancelled ones: these are gone for good.

    What was cancelled and sent again runs once, at its new place, and the counts stay right.
    """
    queue = h.queue()
    a, b, c, d = (Envelope(h.handler(name)) for name in "abcd")
    queue.send(a, b, c)
    queue.cancel(b)
    urgent = Envelope(h.handler("urgent"), priority=5)
    queue.send(urgent)
    assert queue.stats().buffered == 3
    queue.send(b, d)
    queue.cancel(c)
    queue.send(c, Envelope(h.handler("idle"), priority=-1))
    queue.send(Envelope(h.handler("urgent too"), priority=5))
    assert queue.stats().buffered == 7
    queue.start()
    assert queue.join(timeout=60)
    assert h.labels() == ["urgent", "urgent too", "a", "b", "d", "c", "idle"]


def test_s15_a_priority_that_comes_with_a_resend(h: Harness) -> None:
    """S15: the first priority may come with a re-send of a key that runs: it goes before what waits, too."""
    queue, gate = h.queue(), h.gate()
    begin(h, queue, gate, held(h, gate, key="k"))
    queue.send(Envelope(h.handler("a")), Envelope(h.handler("b")))
    queue.send(Envelope(h.handler("urgent"), key="k", priority=5))
    gate.open()
    assert queue.join(timeout=60)
    assert h.labels()[1:] == ["urgent", "a", "b"]


def test_s16_noted_by_submit_then_cancelled(h: Harness) -> None:
    """S16: what waits as a plain envelope is submitted as well, then cancelled, then sent again: it runs once, last."""
    queue = h.queue()
    a, b, c = (Envelope(h.handler(name)) for name in "abc")
    queue.send(a, b, c)
    future = queue.submit(a)
    assert (queue.stats().coalesced, len(queue)) == (1, 3)
    assert queue.cancel(a)
    with pytest.raises(Cancelled):
        future.result(timeout=60)
    assert queue.send(a) == 1
    second = queue.submit(a)
    queue.start()
    assert queue.join(timeout=60)
    assert h.labels() == ["b", "c", "a"]
    assert second.result(timeout=60) == "a"
    assert (queue.stats().accepted, queue.stats().returned, queue.stats().succeeded) == (4, 1, 3)


@pytest.mark.parametrize("times", [1, 3])
def test_s17_cancelled_and_sent_again(h: Harness, times: int) -> None:
    """S17: cancelled while it waits and sent again, once or three times: it runs once, at its new place."""
    queue = h.queue()
    a, b, c = (Envelope(h.handler(name)) for name in "abc")
    queue.send(a, b, c)
    for _ in range(times):
        assert queue.cancel(a)
        assert queue.send(a) == 1
    assert queue.cancel(c)
    assert queue.stats().buffered == 2
    queue.start()
    assert queue.join(timeout=60)
    assert h.labels() == ["b", "a"]
    assert queue.stats().returned == times + 1


def test_s18_the_last_one_off_becomes_a_periodic(h: Harness) -> None:
    """S18: a join waits for a one-off that is replaced by a periodic under its key: none is left, it returns."""
    queue = h.queue(duplicates="replace")
    queue.start()
    queue.pause()
    queue.send(Envelope(h.handler("one-off"), key="k"))
    joining = h.in_background(lambda: queue.join(timeout=60))
    h.pass_time(0.2)
    assert not joining.done
    queue.send(Envelope.every(h.s(FOREVER), h.handler("periodic"), key="k"))
    assert joining.result() is True
    queue.resume()
    h.until(lambda: h.labels() == ["periodic"])
    assert queue.join(timeout=60)
    assert len(queue) == 1


def test_s19_a_periodic_cancelled_during_its_run(h: Harness) -> None:
    """S19: a periodic is cancelled while it runs, then the queue stops: it is not kept, its outcome is RETURNED."""
    queue, gate = h.queue(), h.gate()
    periodic = held(h, gate, interval=h.s(1))
    begin(h, queue, gate, periodic)
    assert queue.cancel(periodic)
    queue.stop(wait=False)
    gate.open()
    assert queue.stop().kept == ()
    assert (queue.stats().returned, queue.stats().runs_succeeded, len(queue)) == (1, 1, 0)
    queue.start()
    h.pass_time(3)
    assert len(h.log) == 1


@pytest.mark.parametrize("interval", [None, FOREVER], ids=["one-off", "periodic"])
def test_s19_a_run_cancelled_by_the_stop(h: Harness, interval: float | None) -> None:
    """S19: a run that the stop cancels is kept, due at once, and its attempt does not count."""
    queue = h.queue()
    envelope = Envelope(waits_for_its_context(h), interval=None if interval is None else h.s(interval))
    queue.start()
    queue.send(envelope)
    h.until(lambda: len(h.log) == 1)
    report = queue.stop(timeout=0, grace=30)
    assert (report.kept, report.abandoned, report.timed_out) == ((envelope,), (), True)
    stats = queue.stats()
    assert (stats.runs_cancelled, stats.ready, stats.delayed, stats.dropped) == (1, 1, 0, 0)
    queue.start()
    h.until(lambda: len(h.log) == 2)
    assert h.labels() == [(None, 1), (None, 1)]


def test_s20_resized_down_during_a_stop(h: Harness) -> None:
    """S20: resize to 1 while a drain of three runs is going: none is interrupted, what waits still runs."""
    queue, gate = h.queue(workers=3), h.gate()
    queue.start()
    queue.send(*[held(h, gate, payload=number) for number in range(3)])
    h.until(lambda: gate.waiting == 3)
    queue.send(*[Envelope(h.handler(), payload=number) for number in (3, 4)])
    queue.stop(wait=False)
    queue.resize(1)
    assert queue.stats().running == 3
    gate.open()
    report = queue.stop()
    assert (report.kept, report.succeeded, queue.stats().succeeded) == ((), 5, 5)
    queue.start()
    second = h.gate()
    queue.send(held(h, second), held(h, second))
    h.until(lambda: second.waiting == 1)
    h.pass_time(0.5)
    assert (second.waiting, queue.stats().workers) == (1, 1)
    second.open()


def test_s20_resized_up_during_a_stop(h: Harness) -> None:
    """S20: resize to 5 while a stop is going: no thread is made for it; the next start makes five."""
    queue, gate = h.queue(workers=1), h.gate()
    begin(h, queue, gate, held(h, gate))
    queue.stop(wait=False)
    threads = threading.active_count()
    queue.resize(5)
    if h.kind == "threads":
        assert threading.active_count() == threads
    gate.open()
    queue.stop()
    queue.start()
    second = h.gate()
    queue.send(*[held(h, second) for _ in range(6)])
    h.until(lambda: second.waiting == 5)
    assert queue.stats().running == 5
    second.open()


@blocking_only("a concurrent.futures.Future is what threads give: asyncio gives its own, see test_asyncio_futures")
def test_s21_stopped_from_the_callback_of_a_future(h: Harness) -> None:
    """S21: a future's callback stops the queue: the stop is begun, the report provisional; the next stop is final."""
    queue = h.queue()
    reports: list[Any] = []
    future = queue.submit(Envelope(h.handler("ran")))
    future.add_done_callback(lambda future: reports.append(queue.stop()))
    queue.start()
    h.until(lambda: reports)
    (provisional,) = reports
    assert (provisional.state, provisional.initiated_from_handler) == (QueueState.STOPPING, True)
    final = queue.stop()
    assert (final.state, queue.state) == (QueueState.STOPPED, QueueState.STOPPED)


def test_s22_submitted_before_and_during_a_run(h: Harness) -> None:
    """S22: submitted, and while it runs once more: both futures get the value of the last run."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate)
    queue.start()
    first = queue.submit(envelope)
    h.until(lambda: gate.waiting == 1)
    second = queue.submit(envelope)
    assert (first.done(), second.done()) == (False, False)
    gate.open()
    assert (first.result(timeout=60), second.result(timeout=60)) == (2, 2)
    assert (queue.stats().accepted, queue.stats().runs_succeeded) == (1, 2)


def test_s22_and_then_cancelled(h: Harness) -> None:
    """S22: the same, then cancelled: this run is the last, and both futures get its value."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate)
    queue.start()
    first = queue.submit(envelope)
    h.until(lambda: gate.waiting == 1)
    second = queue.submit(envelope)
    assert queue.cancel(envelope)
    gate.open()
    assert (first.result(timeout=60), second.result(timeout=60)) == (1, 1)
    assert (queue.stats().succeeded, queue.stats().returned, len(h.log)) == (1, 0, 1)


def test_s23_a_second_stop_with_a_shorter_timeout(h: Harness) -> None:
    """S23: a second stop with a shorter timeout takes over the first: both return then, with one report."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate)
    begin(h, queue, gate, envelope)
    first = h.in_background(lambda: queue.stop(timeout=h.s(FOREVER), grace=0))
    h.until(lambda: queue.state is QueueState.STOPPING)
    asked_at = h.now()
    report = queue.stop(timeout=h.s(1), grace=0)
    assert h.now() - asked_at == h.about(1)
    assert (report.abandoned, report.timed_out) == ((envelope,), True)
    assert first.result() == report


def test_s23_a_longer_timeout_changes_nothing(h: Harness) -> None:
    """S23: times only shrink: a later stop cannot lengthen the timeout of the first."""
    queue, gate = h.queue(), h.gate()
    begin(h, queue, gate, held(h, gate))
    asked_at = h.now()
    queue.stop(timeout=h.s(1), grace=0, wait=False)
    for timeout in (h.s(FOREVER), None):
        queue.stop(timeout=timeout, wait=False)
    report = queue.stop(timeout=h.s(FOREVER), grace=h.s(FOREVER))
    assert h.now() - asked_at == h.about(1)
    assert len(report.abandoned) == 1


def test_s23_a_timeout_comes_to_a_stop_without_one(h: Harness) -> None:
    """S23: a stop that would wait for ever is bounded by a second one."""
    queue, gate = h.queue(), h.gate()
    begin(h, queue, gate, held(h, gate))
    first = h.in_background(queue.stop)
    h.until(lambda: queue.state is QueueState.STOPPING)
    report = queue.stop(timeout=0, grace=0)
    assert first.result() == report
    assert len(report.abandoned) == 1
