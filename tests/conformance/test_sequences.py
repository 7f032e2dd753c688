"""The sequences that bite, 1 to 8: short stories, each of which once lost, doubled or delayed something.

They are told through the public API, on every driver where a user could notice. What only the machine can show (seats,
debris, tokens) is in tests/unit/test_machine.py as well.
"""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import Cancelled, Envelope, QueueState, StopMode, retry_after, retry_with_backoff
from rate_envelope_queue.workqueue import ExponentialBackoff

from .harness import Harness
from .sequences import FOREVER, balances, begin, held, noop, waits_for_its_context

KEYS = pytest.mark.parametrize("options", [{}, {"key": "k"}], ids=["plain", "key"])


def test_s01_resent_while_running_then_stopped_and_failed(h: Harness) -> None:
    """S01: sent again while it runs, then the queue stops, then the run asks for a retry in a long while.

    It is kept once, due at once because of the re-send, and its next run is a first attempt.
    """
    queue, gate = h.queue(), h.gate()

    def fails_once(ctx: Any, envelope: Any) -> None:
        h.mark(ctx.attempt)
        if len(h.log) == 1:
            gate.wait(ctx)
            raise ValueError("the first run")

    envelope = Envelope(fails_once, failure_hook=lambda ctx, envelope, error: retry_after(h.s(FOREVER)))
    begin(h, queue, gate, envelope)
    assert queue.send(envelope) == 0
    queue.stop(StopMode.STOP, wait=False)
    gate.open()
    report = queue.stop()
    assert report.kept == (envelope,)
    stats = queue.stats()
    assert (stats.occupancy, stats.ready, stats.delayed, stats.runs_failed) == (1, 1, 0, 1)
    restarted_at = h.now()
    queue.start()
    assert queue.join(timeout=30)
    assert h.now() - restarted_at < FOREVER / 2
    assert h.labels() == [1, 1]
    assert (queue.stats().succeeded, queue.stats().accepted) == (1, 1)


def test_s02_cancelled_while_running_then_sent_again(h: Harness) -> None:
    """S02: cancel of what runs, then a send of it: the last word is the send's, so it runs once more."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate)
    begin(h, queue, gate, envelope)
    assert queue.cancel(envelope)
    assert queue.send(envelope) == 0
    gate.open()
    assert queue.join(timeout=60)
    assert h.labels() == [(None, 1), (None, 1)]
    assert (queue.stats().accepted, queue.stats().succeeded) == (1, 1)


def test_s02_sent_again_while_running_then_cancelled(h: Harness) -> None:
    """S02: the reverse: the last word is the cancel's, so this run was the last, and its success counts."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate)
    begin(h, queue, gate, envelope)
    assert queue.send(envelope) == 0
    assert queue.cancel(envelope)
    gate.open()
    assert queue.join(timeout=60)
    assert h.labels() == [(None, 1)]
    assert (queue.stats().accepted, queue.stats().succeeded, queue.stats().returned) == (1, 1, 0)


@pytest.mark.parametrize("resent", [False, True], ids=["cancelled", "cancelled, or sent again"])
def test_s02_the_backoff_is_forgotten_whatever_ends_it(h: Harness, resent: bool) -> None:
    """S02: the limiter forgets an entry at every outcome: also when a cancel ends it whose run asked for backoff."""
    limiter = ExponentialBackoff(h.s(0.01), h.s(FOREVER))
    queue, gate = h.queue(backoff=limiter), h.gate()

    def fails_once(ctx: Any, envelope: Any) -> None:
        h.mark(ctx.attempt)
        if len(h.log) <= 2:
            if len(h.log) == 2:
                gate.wait(ctx)
            raise ValueError("again")

    envelope = Envelope(fails_once, key="k", failure_hook=lambda ctx, envelope, error: retry_with_backoff())
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting == 1)
    assert limiter.num_requeues("k") == 1
    queue.send(envelope) if resent else queue.cancel("k")
    gate.open()
    assert queue.join(timeout=60)
    assert h.labels() == ([1, 2, 1] if resent else [1, 2])
    assert (queue.stats().succeeded, queue.stats().returned) == ((1, 0) if resent else (0, 1))
    assert limiter.num_requeues("k") == 0


@KEYS
def test_s03_abandoned_restarted_and_sent_again(h: Harness, options: dict[str, Any]) -> None:
    """S03: a run is abandoned and goes on; after a restart the same envelope is sent.

    That is a new entry, but it starts only when the old run has ended. The late end readies it and changes no outcome.
    """
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate, **options)
    begin(h, queue, gate, envelope)
    report = queue.stop(timeout=0, grace=0)
    assert (report.abandoned, report.kept, report.timed_out) == ((envelope,), (), True)
    assert (queue.stats().abandoned, queue.stats().running, len(queue)) == (1, 0, 0)
    queue.start()
    assert queue.send(envelope) == 1
    assert queue.send(envelope) == 0
    queue.send(Envelope(h.handler("another")))
    h.until(lambda: "another" in h.labels())
    h.pass_time(1)
    assert h.labels() == [(None, 1), "another"]
    assert (queue.stats().ready, queue.stats().running, len(queue)) == (1, 0, 1)
    gate.open()
    assert queue.join(timeout=60)
    assert h.labels() == [(None, 1), "another", (None, 1)]
    stats = queue.stats()
    assert (stats.accepted, stats.abandoned, stats.succeeded) == (3, 1, 2)
    assert (stats.runs_abandoned, stats.abandoned_ended, stats.runs_succeeded) == (1, 1, 2)


@KEYS
def test_s03_what_is_blocked_outlives_a_drain(h: Harness, options: dict[str, Any]) -> None:
    """S03: a drain does not wait for what stands behind an abandoned run: it is kept, and runs after the next start."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate, **options)
    begin(h, queue, gate, envelope)
    queue.stop(timeout=0, grace=0)
    queue.start()
    queue.send(envelope)
    assert queue.stop().kept == (envelope,)
    queue.start()
    gate.open()
    assert queue.join(timeout=60)
    assert len(h.log) == 2


@KEYS
def test_s04_abandoned_with_a_resend_pending(h: Harness, options: dict[str, Any]) -> None:
    """S04: the abandoned run had been sent again: the entry is kept behind it, and its futures go with the entry."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate, **options)
    queue.start()
    future = queue.submit(envelope)
    h.until(lambda: gate.waiting == 1)
    assert queue.send(envelope) == 0
    report = queue.stop(timeout=0, grace=0)
    assert (report.abandoned, report.kept) == ((envelope,), (envelope,))
    stats = queue.stats()
    assert (stats.runs_abandoned, stats.abandoned, stats.occupancy, stats.ready) == (1, 0, 1, 1)
    assert not future.done()
    queue.start()
    h.pass_time(0.5)
    assert len(h.log) == 1
    gate.open()
    assert future.result(timeout=60) == 2
    assert queue.join(timeout=60)
    stats = queue.stats()
    assert (stats.accepted, stats.succeeded, stats.abandoned, stats.abandoned_ended) == (1, 1, 0, 1)


@KEYS
def test_s04_and_the_queue_is_terminated(h: Harness, options: dict[str, Any]) -> None:
    """S04: under terminate nothing goes on: the entry ends ABANDONED, and its future is cancelled."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate, **options)
    queue.start()
    future = queue.submit(envelope)
    h.until(lambda: gate.waiting == 1)
    queue.send(envelope)
    report = queue.terminate(timeout=0, grace=0)
    assert (report.abandoned, report.kept, report.returned) == ((envelope,), (), ())
    with pytest.raises(Cancelled):
        future.result(timeout=60)
    gate.open()
    h.until(lambda: queue.stats().abandoned_ended == 1)
    assert (queue.stats().abandoned, queue.stats().runs_abandoned, len(h.log)) == (1, 1, 1)
    assert balances(queue)


@pytest.mark.parametrize("how", ["cancel", "clear", "terminate"])
@KEYS
def test_s04_what_is_kept_behind_it_is_taken_out(h: Harness, how: str, options: dict[str, Any]) -> None:
    """S04: what stands behind the abandoned run can be taken out; the late end of that run then changes a counter."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate, **options)
    begin(h, queue, gate, envelope)
    queue.send(envelope)
    queue.stop(timeout=0, grace=0)
    if how == "cancel":
        assert queue.cancel(options.get("key", envelope))
    elif how == "clear":
        assert queue.clear() == [envelope]
    else:
        assert queue.terminate().returned == (envelope,)
    assert (len(queue), queue.stats().returned) == (0, 1)
    gate.open()
    h.until(lambda: queue.stats().abandoned_ended == 1)
    assert (len(h.log), balances(queue)) == (1, True)
    if how != "terminate":
        queue.start()
        queue.send(envelope)
        assert queue.join(timeout=60)
        assert len(h.log) == 2


@KEYS
def test_s04_a_delayed_resend_keeps_its_time(h: Harness, options: dict[str, Any]) -> None:
    """S04: when the pending re-send was a delayed one, the end of the abandoned run does not make it early."""
    queue, gate = h.queue(), h.gate()
    envelope = held(h, gate, **options)
    begin(h, queue, gate, envelope)
    sent_at = h.now()
    queue.send(envelope, delay=h.s(6))
    assert queue.stop(timeout=0, grace=0).kept == (envelope,)
    queue.start()
    gate.open()
    h.until(lambda: queue.stats().abandoned_ended == 1)
    assert queue.join(timeout=60)
    assert len(h.log) == 2
    assert h.log[1][0] - sent_at == h.about(6)


class Incomparable:
    """A payload that cannot be compared."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __lt__(self, other: object) -> bool:
        raise AssertionError("compared")

    __eq__ = __gt__ = __le__ = __ge__ = __lt__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def test_s05_many_due_at_the_same_instant(h: Harness) -> None:
    """S05: a hundred envelopes due at one instant all run, each once, in the order in which they were scheduled."""
    queue = h.queue()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark(envelope.payload.number)

    envelopes = [Envelope(invoke, payload=Incomparable(number)) for number in range(100)]
    queue.start()
    assert queue.send(*envelopes, delay=h.s(1)) == 100
    assert queue.send(*envelopes[::2], delay=h.s(FOREVER)) == 0  # later: changes nothing
    assert queue.join(timeout=60)
    assert h.labels() == list(range(100))


def test_s05_cancelled_and_delayed_again_to_the_same_instant(h: Harness) -> None:
    """S05: cancelled and sent again for the same instant: the old place is void, the new one counts once."""
    queue = h.queue()
    envelopes = [Envelope(h.handler(), payload=number, key=number) for number in range(10)]
    queue.send(*envelopes, delay=h.s(1))
    for envelope in envelopes[:5]:
        assert queue.cancel(envelope)
        assert queue.send(envelope, delay=h.s(1)) == 1
    queue.start()
    assert queue.join(timeout=60)
    assert sorted(h.labels()) == list(range(10))
    if h.is_virtual:
        assert h.labels() == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]


def draining_behind_the_start_rate(h: Harness) -> tuple[Any, Envelope]:
    """A queue in the middle of a drain: nothing runs, and its last envelope waits for the start rate."""
    queue = h.queue(start_rate=1 / h.s(FOREVER))
    queue.start()
    queue.send(Envelope(h.handler("first")))
    h.until(lambda: queue.stats().succeeded == 1)
    last = Envelope(h.handler("last"))
    queue.send(last)
    h.pass_time(0.2)
    queue.stop(wait=False)
    assert (queue.state, queue.stats().ready) == (QueueState.STOPPING, 1)
    return queue, last


def test_s06_the_last_ready_one_is_cancelled_during_a_drain(h: Harness) -> None:
    """S06: nobody runs, and the last that waits is cancelled: the cancel itself ends the drain."""
    queue, last = draining_behind_the_start_rate(h)
    assert queue.cancel(last)
    report = queue.stop(timeout=60)
    assert (report.kept, report.timed_out, queue.state) == ((), False, QueueState.STOPPED)
    assert h.labels() == ["first"]


def test_s06_a_pause_during_a_drain(h: Harness) -> None:
    """S06: a pause in the middle of a drain keeps what waits and ends the drain; what runs is waited for."""
    queue, last = draining_behind_the_start_rate(h)
    queue.pause()
    report = queue.stop(timeout=60)
    assert (report.kept, report.timed_out, queue.state) == ((last,), False, QueueState.STOPPED)


def test_s06_clear_during_a_drain(h: Harness) -> None:
    """S06: clear as well."""
    queue, last = draining_behind_the_start_rate(h)
    assert queue.clear() == [last]
    assert queue.stop(timeout=60).kept == ()
    assert queue.state is QueueState.STOPPED


def test_s07_what_was_cancelled_takes_no_token(h: Harness) -> None:
    """S07: with only cancelled envelopes in the ready queue, no token of the start rate is spent on them."""
    queue = h.queue(start_rate=1 / h.s(FOREVER))
    queue.start()
    queue.pause()
    cancelled = [Envelope(h.handler("cancelled")) for _ in range(3)]
    queue.send(*cancelled)
    for envelope in cancelled:
        queue.cancel(envelope)
    queue.resume()
    h.pass_time(0.2)
    sent_at = h.now()
    queue.send(Envelope(h.handler("live")))
    assert queue.join(timeout=30)
    assert h.labels() == ["live"]
    assert h.now() - sent_at < FOREVER / 2


def test_s08_terminate_during_a_drain(h: Harness) -> None:
    """S08: terminate in the middle of a drain: what runs, waits and is delayed is all in `returned`.

    Also a run that was cancelled, and had left the table, while another one still kept the report waiting.
    """
    queue, gate = h.queue(workers=2), h.gate()
    waiting = Envelope(waits_for_its_context(h), payload="waiting")
    blocked = held(h, gate, payload="blocked")
    ready, delayed = Envelope(noop, payload="ready"), Envelope(noop, payload="delayed")
    queue.start()
    queue.send(waiting, blocked)
    h.until(lambda: len(h.log) == 2)
    queue.send(ready)
    queue.send(delayed, delay=h.s(FOREVER))
    queue.stop(wait=False)
    assert queue.terminate(wait=False).state is QueueState.STOPPING
    h.until(lambda: queue.stats().runs_cancelled == 1)
    assert queue.stats().running == 1
    gate.open()
    report = queue.terminate()
    assert report.state is QueueState.TERMINATED
    assert sorted(envelope.payload for envelope in report.returned) == ["delayed", "ready", "waiting"]
    assert (report.kept, report.abandoned, report.succeeded) == ((), (), 1)
    assert (queue.stats().returned, queue.stats().succeeded, len(queue)) == (3, 1, 0)
