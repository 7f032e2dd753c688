"""Line 70a for submit: each ruling of CONTRACT 2 about futures is a test."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, as_completed, wait
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import pytest

from rate_envelope_queue import (
    Cancelled,
    CapacityExceededError,
    Envelope,
    InvalidEnvelopeError,
    RetryEnvelope,
    StopEnvelope,
    StopMode,
    retry_now,
)

from .harness import Harness, blocking_only, simulated_only, threads_only


def value(ctx: Any, envelope: Any) -> Any:
    return envelope.payload


def fail(ctx: Any, envelope: Any) -> Any:
    raise envelope.payload


@pytest.mark.parametrize("payload", [42, None, "text", ZeroDivisionError("as a value")])
def test_resolves_to_what_invoke_returned(h: Harness, payload: Any) -> None:
    """70a submit: resolves to invoke's return value, whatever that is."""
    queue = h.queue()
    queue.start()
    future = queue.submit(Envelope(value, payload=payload))
    assert future.result(20) is payload
    assert future.done()
    assert future.exception() is None


@blocking_only("a concurrent.futures.Future is what threads give: asyncio gives its own, see test_asyncio_futures")
def test_is_a_concurrent_future(h: Harness) -> None:
    """70a submit: a concurrent.futures.Future from threads."""
    queue = h.queue()
    assert isinstance(queue.submit(Envelope(value)), Future)


def test_in_init(h: Harness) -> None:
    """70a submit: in INIT it is buffered, and resolves after the start."""
    queue = h.queue()
    future = queue.submit(Envelope(value, payload=1))
    assert not future.done()
    queue.start()
    assert future.result(20) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), SystemExit(3), Cancelled("my own"), TimeoutError("mine")])
def test_raises_the_last_error(h: Harness, error: BaseException) -> None:
    """70a submit: raises what ended it: the last error, the very exception, of any class."""
    queue = h.queue()
    queue.start()
    future = queue.submit(Envelope(fail, payload=error))
    h.until(future.done)
    assert future.exception() is error
    assert (queue.stats().dropped, queue.stats().occupancy) == (1, 0)


def test_raises_the_last_error_of_several(h: Harness) -> None:
    """70a submit: after retries it is the error of the last run, and only then resolved."""
    queue = h.queue()

    def invoke(ctx: Any, envelope: Any) -> None:
        raise ValueError(ctx.attempt)

    queue.start()
    future = queue.submit(Envelope(invoke, max_attempts=3, failure_hook=lambda *_: retry_now()))
    with pytest.raises(ValueError, match="3"):
        future.result(20)


def test_resolves_after_a_retry(h: Harness) -> None:
    """70a submit: it resolves with the final outcome: a success after failures is a success."""
    queue = h.queue()

    def invoke(ctx: Any, envelope: Any) -> int:
        if ctx.attempt < 3:
            raise RetryEnvelope(h.s(1))
        return int(ctx.attempt)

    queue.start()
    assert queue.submit(Envelope(invoke)).result(20) == 3


def test_raises_stop_envelope(h: Harness) -> None:
    """70a submit: raises StopEnvelope when that ended it."""
    queue = h.queue()
    queue.start()
    future = queue.submit(Envelope(fail, payload=StopEnvelope("enough")))
    with pytest.raises(StopEnvelope, match="enough"):
        future.result(20)


def test_raises_cancelled_when_terminated(h: Harness) -> None:
    """70a submit: Cancelled when returned by terminate."""
    queue = h.queue()
    future = queue.submit(Envelope(value))
    queue.terminate()
    assert future.done()
    with pytest.raises(Cancelled):
        future.result(20)


def test_raises_cancelled_when_abandoned(h: Harness) -> None:
    """70a submit: ABANDONED resolves with Cancelled; the late end of the run changes nothing."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    future = queue.submit(Envelope(lambda ctx, envelope: gate.wait(ctx) or "too late"))
    h.until(lambda: gate.waiting)
    queue.stop(timeout=0, grace=0)
    with pytest.raises(Cancelled):
        future.result(20)
    gate.open()
    h.until(lambda: queue.stats().abandoned_ended)
    with pytest.raises(Cancelled):
        future.result(20)


def test_survives_a_stop_that_keeps_it(h: Harness) -> None:
    """70a submit: the future of a kept entry stays pending, and resolves after the next start."""
    queue = h.queue()
    queue.start()
    queue.pause()
    future = queue.submit(Envelope(value, payload="kept"))
    queue.stop(StopMode.STOP)
    assert not future.done()
    queue.resume()
    queue.start()
    assert future.result(20) == "kept"


def test_an_abandoned_run_with_a_resend(h: Harness) -> None:
    """70a submit: abandoned with a re-send pending: the entry is kept, and so are its futures."""
    queue, gate = h.queue(), h.gate()
    envelope = Envelope(lambda ctx, envelope: gate.wait(ctx) or "done")
    queue.start()
    first = queue.submit(envelope)
    h.until(lambda: gate.waiting)
    second = queue.submit(envelope)
    queue.stop(timeout=0, grace=0)
    assert not first.done()
    assert not second.done()
    queue.start()
    gate.open()
    assert (first.result(20), second.result(20)) == ("done", "done")


def test_a_dropped_one_is_a_dead_letter_too(h: Harness) -> None:
    """70a submit: a dropped entry goes to the dead letters, with a future or without."""
    queue = h.queue()
    queue.start()
    envelope = Envelope(fail, payload=ZeroDivisionError())
    queue.submit(envelope)
    queue.join()
    assert [letter.envelope for letter in queue.dead_letters()] == [envelope]


def test_that_does_not_fit(h: Harness) -> None:
    """70a submit: one that does not fit -> CapacityExceededError, nothing changed."""
    queue = h.queue(capacity=1)
    envelope = Envelope(value, payload=1)
    queue.send(envelope)
    with pytest.raises(CapacityExceededError):
        queue.submit(Envelope(value))
    assert len(queue) == 1
    future = queue.submit(envelope)  # a duplicate needs no room
    queue.start()
    assert future.result(20) == 1


def test_of_what_was_sent_already(h: Harness) -> None:
    """70a submit: of an entry that waits already: it merges, and gets that entry's outcome."""
    queue = h.queue()
    envelope = Envelope(lambda ctx, envelope: h.mark("ran") or "value")
    queue.send(envelope)
    futures = [queue.submit(envelope) for _ in range(3)]
    queue.start()
    assert [future.result(20) for future in futures] == ["value"] * 3
    assert h.labels() == ["ran"]
    assert queue.stats().accepted == 1


def test_by_key(h: Harness) -> None:
    """70a submit: with one key and another envelope, keep: the future gets the outcome of the first."""
    queue = h.queue()
    queue.send(Envelope(value, key="k", payload="first"))
    future = queue.submit(Envelope(value, key="k", payload="second"))
    queue.start()
    assert future.result(20) == "first"


def test_by_key_replaced(h: Harness) -> None:
    """70a submit: with duplicates="replace" both futures get the outcome of the last."""
    queue = h.queue(duplicates="replace")
    futures = [queue.submit(Envelope(value, key="k", payload=payload)) for payload in ("first", "second")]
    queue.start()
    assert [future.result(20) for future in futures] == ["second", "second"]


def test_of_a_periodic(h: Harness) -> None:
    """70a submit: of a periodic: InvalidEnvelopeError, nothing accepted."""
    queue = h.queue()
    with pytest.raises(InvalidEnvelopeError):
        queue.submit(Envelope.every(1, value))
    assert len(queue) == 0


@pytest.mark.parametrize("duplicates", ["keep", "replace"])
def test_onto_a_key_held_by_a_periodic(h: Harness, duplicates: str) -> None:
    """70a submit: onto a key held by a periodic: InvalidEnvelopeError, and the periodic stays."""
    queue = h.queue(duplicates=duplicates)
    periodic = Envelope.every(1, value, key="k")
    queue.send(periodic)
    with pytest.raises(InvalidEnvelopeError):
        queue.submit(Envelope(value, key="k"))
    assert queue.clear() == [periodic]


@blocking_only("a concurrent.futures.Future is what threads give: asyncio gives its own, see test_asyncio_futures")
def test_running(h: Harness) -> None:
    """70a submit: the future is running while the entry runs."""
    queue, gate = h.queue(), h.gate()
    future = queue.submit(Envelope(lambda ctx, envelope: gate.wait(ctx)))
    assert (future.running(), future.done(), future.cancelled()) == (False, False, False)
    queue.start()
    h.until(lambda: gate.waiting)
    assert (future.running(), future.done(), future.cancelled()) == (True, False, False)
    gate.open()
    h.until(future.done)
    assert (future.running(), future.done(), future.cancelled()) == (False, True, False)


def test_result_times_out(h: Harness) -> None:
    """70a submit: result with a timeout raises TimeoutError when that has passed, and may be asked again."""
    queue = h.queue()
    queue.start()
    future = queue.submit(Envelope(lambda ctx, envelope: h.work(ctx, 5) or "value"))
    with pytest.raises(FutureTimeout):
        future.result(h.s(1))
    assert future.result(20) == "value"


@simulated_only
def test_result_times_out_in_virtual_time(h: Harness) -> None:
    """70a submit: on the simulated queue future.result advances time, and its timeout is virtual too."""
    queue = h.queue()
    queue.start()
    queue.send(Envelope(value), delay=1000)
    future = queue.submit(Envelope(value, payload="value", key="k"))
    assert future.result(5) == "value"
    assert h.now() == 0
    queue.pause()
    late = queue.submit(Envelope(value))
    began_at = time.monotonic()
    with pytest.raises(FutureTimeout):
        late.result(5)
    assert time.monotonic() - began_at < 4
    assert h.now() == 5


@blocking_only("a concurrent.futures.Future is what threads give: asyncio gives its own, see test_asyncio_futures")
def test_wait(h: Harness) -> None:
    """70a submit: concurrent.futures.wait takes its futures."""
    queue = h.queue()
    queue.start()
    futures = [queue.submit(Envelope(value, payload=number)) for number in range(5)]
    if h.kind == "simulated":
        queue.run_until_idle()
    done, pending = wait(futures, timeout=20)
    assert (done, pending) == (set(futures), set())


@blocking_only("a concurrent.futures.Future is what threads give: asyncio gives its own, see test_asyncio_futures")
def test_as_completed(h: Harness) -> None:
    """70a submit: concurrent.futures.as_completed takes its futures."""
    queue = h.queue()
    queue.start()
    futures = [queue.submit(Envelope(value, payload=number)) for number in range(5)]
    if h.kind == "simulated":
        queue.run_until_idle()
    assert sorted(future.result(20) for future in as_completed(futures, timeout=20)) == [0, 1, 2, 3, 4]


@threads_only
def test_wait_while_it_runs(h: Harness) -> None:
    """70a submit: wait and as_completed started before the end see it come."""
    queue, gate = h.queue(workers=2), h.gate()
    queue.start()
    late = queue.submit(Envelope(lambda ctx, envelope: gate.wait(ctx) or "late"))
    early = queue.submit(Envelope(value, payload="early"))
    assert wait([late, early], timeout=20, return_when=FIRST_COMPLETED).done == {early}
    waiting = h.in_background(lambda: [future.result() for future in as_completed([late, early], timeout=20)])
    h.pass_time(1)
    gate.open()
    assert waiting.result() == ["early", "late"]


def test_cancel_while_it_waits(h: Harness) -> None:
    """70a submit: future.cancel() works while the entry waits; the entry is withdrawn: RETURNED, it never runs."""
    queue = h.queue()
    future = queue.submit(Envelope(h.handler("never")))
    assert future.cancel() is True
    assert (future.cancelled(), future.done()) == (True, True)
    with pytest.raises(CancelledError):
        future.result(20)
    assert (len(queue), queue.stats().returned) == (0, 1)
    queue.start()
    h.pass_time(1)
    assert h.labels() == []


def test_cancel_of_what_waits_for_a_retry(h: Harness) -> None:
    """70a submit: future.cancel() works while the entry waits: also for its next try."""
    queue = h.queue()
    queue.start()
    future = queue.submit(
        Envelope(lambda ctx, envelope: h.mark("ran") or fail(ctx, envelope), payload=RetryEnvelope(100))
    )
    h.until(lambda: queue.stats().delayed)
    assert future.cancel() is True
    assert len(queue) == 0
    assert future.cancelled()


@blocking_only("a concurrent.futures.Future is what threads give: asyncio gives its own, see test_asyncio_futures")
def test_cancel_while_it_runs(h: Harness) -> None:
    """70a submit: future.cancel() does nothing while the entry runs, nor when it has ended."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    future = queue.submit(Envelope(lambda ctx, envelope: gate.wait(ctx) or "value"))
    h.until(lambda: gate.waiting)
    assert future.cancel() is False
    gate.open()
    assert future.result(20) == "value"
    assert future.cancel() is False
    assert not future.cancelled()


def test_cancel_of_one_of_two(h: Harness) -> None:
    """70a submit: cancel detaches its own future; the entry is withdrawn when no future is left."""
    queue = h.queue()
    envelope = Envelope(value, payload=1)
    first, second = queue.submit(envelope), queue.submit(envelope)
    assert first.cancel() is True
    assert len(queue) == 1
    assert not second.done()
    queue.start()
    assert second.result(20) == 1
    assert first.cancelled()


def test_cancel_of_both(h: Harness) -> None:
    """70a submit: cancel of the last future withdraws the entry."""
    queue = h.queue()
    envelope = Envelope(h.handler("never"))
    futures = [queue.submit(envelope) for _ in range(2)]
    assert [future.cancel() for future in futures] == [True, True]
    assert len(queue) == 0


@pytest.mark.parametrize("sent_first", [True, False])
def test_cancel_of_what_was_sent_too(h: Harness, sent_first: bool) -> None:
    """70a submit: and no plain send asked for it: one that was also sent runs without the future."""
    queue = h.queue()
    envelope = Envelope(h.handler("ran"))
    if sent_first:
        queue.send(envelope)
    future = queue.submit(envelope)
    if not sent_first:
        queue.send(envelope)
    assert future.cancel() is True
    assert len(queue) == 1
    queue.start()
    h.until(lambda: h.labels() == ["ran"])


def test_cancel_frees_room(h: Harness) -> None:
    """70a submit: what future.cancel() withdrew leaves its room to others."""
    queue = h.queue(capacity=1)
    queue.submit(Envelope(value)).cancel()
    assert queue.send(Envelope(value)) == 1


@blocking_only("a concurrent.futures.Future is what threads give: asyncio gives its own, see test_asyncio_futures")
def test_callbacks(h: Harness) -> None:
    """70a submit: callbacks of the future are called once each, and one that raises harms nothing."""
    queue = h.queue()

    def bad(future: Any) -> None:
        h.mark("bad")
        raise ZeroDivisionError

    queue.start()
    future = queue.submit(Envelope(value, payload=1))
    future.add_done_callback(bad)
    future.add_done_callback(lambda future: h.mark(future.result()))
    queue.join()
    assert h.labels() == ["bad", 1]
    assert queue.submit(Envelope(value, payload=2)).result(20) == 2


@blocking_only("a concurrent.futures.Future is what threads give: asyncio gives its own, see test_asyncio_futures")
def test_stop_from_a_callback(h: Harness) -> None:
    """70a submit: whoever delivers effects is inside: a stop from a future's callback is begun and provisional."""
    queue = h.queue()
    seen: list[Any] = []
    future = queue.submit(Envelope(value))
    future.add_done_callback(lambda future: seen.append(queue.stop()))
    queue.start()
    h.until(lambda: queue.state.name == "STOPPED")
    assert [(report.state.name, report.initiated_from_handler) for report in seen] == [("STOPPING", True)]


def test_send_from_a_callback(h: Harness) -> None:
    """70a submit: a future's callback may send: no lock is held."""
    queue = h.queue()
    queue.start()
    future = queue.submit(Envelope(value))
    future.add_done_callback(lambda future: queue.send(Envelope(h.handler("sent"))))
    h.until(lambda: h.labels() == ["sent"])
