"""Line 70a for duplicates: each sentence of CONTRACT 4 is a test."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import Envelope, RetryEnvelope, StopEnvelope, drop, retry_after

from .harness import Harness


def test_the_key_is_the_identity(h: Harness) -> None:
    """70a duplicates: an entry's key is the envelope's identity."""
    queue = h.queue()
    assert queue.send(Envelope(h.handler(1)), Envelope(h.handler(2))) == 2
    assert len(queue) == 2


def test_the_key_when_given(h: Harness) -> None:
    """70a duplicates: or `key` when given; at most one entry per key."""
    queue = h.queue()
    assert queue.send(*(Envelope(h.handler(number), key=("user", 1)) for number in range(3))) == 1
    assert queue.send(Envelope(h.handler(3), key=("user", 2))) == 1
    assert len(queue) == 2


@pytest.mark.parametrize("key", [0, "", False, ()])
def test_a_key_that_is_false(h: Harness, key: Any) -> None:
    """70a duplicates: only None means no key; 0, "" and False are keys."""
    queue = h.queue()
    assert queue.send(Envelope(h.handler(1), key=key), Envelope(h.handler(2), key=key)) == 1


def test_merged_while_waiting(h: Harness) -> None:
    """70a duplicates: sent again while waiting: merged, no capacity taken, `send` does not count it."""
    queue = h.queue(capacity=1)
    envelope = Envelope(h.handler("ran"))
    assert queue.send(envelope) == 1
    assert queue.send(envelope, envelope) == 0
    assert (len(queue), queue.stats().coalesced) == (1, 2)
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["ran"]


def test_a_send_again_keeps_the_place(h: Harness) -> None:
    """70a duplicates: merged into what is there: it keeps its place in the line."""
    queue = h.queue()
    first, second = Envelope(h.handler("first")), Envelope(h.handler("second"))
    queue.send(first, second)
    queue.send(first)
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["first", "second"]


@pytest.mark.parametrize(("delay", "due"), [(1, 1), (20, 4), (0, 0)])
def test_sent_again_while_delayed(h: Harness, delay: float, due: float) -> None:
    """70a duplicates: sent again while delayed: its due time becomes the earlier of the two; no second entry."""
    queue = h.queue()
    queue.start()
    envelope = Envelope(h.handler("ran"))
    began_at = h.now()
    queue.send(envelope, delay=h.s(4))
    assert queue.send(envelope, delay=h.s(delay)) == 0
    h.until(lambda: len(queue) == 0)
    assert h.times("ran") == [h.about(began_at + due)]
    h.pass_time(5)
    assert len(h.log) == 1


def test_sent_again_between_periods(h: Harness) -> None:
    """70a duplicates: sent again between periods: it runs now, the next period counts from there; no second entry."""
    queue = h.queue()
    queue.start()
    periodic = Envelope.every(h.s(8), h.handler("ran"))
    queue.send(periodic)
    h.until(lambda: queue.stats().delayed)
    h.pass_time(3)
    again_at = h.now()
    assert queue.send(periodic) == 0
    h.until(lambda: len(h.log) == 2)
    assert len(queue) == 1
    h.until(lambda: len(h.log) == 3, timeout=40)
    _, second, third = h.times("ran")
    assert second == h.about(again_at)
    assert third - second == h.about(8)


def test_sent_again_while_running(h: Harness) -> None:
    """70a duplicates: sent again while running: it runs exactly once more; no outcome until that last run."""
    queue, gate, second = h.queue(workers=2), h.gate(), h.gate()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark("ran")
        (gate if len(h.log) == 1 else second).wait(ctx)

    envelope = Envelope(invoke)
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    assert queue.send(envelope) == 0
    assert queue.send(envelope) == 0
    gate.open()
    h.until(lambda: second.waiting)
    stats = queue.stats()
    assert (stats.runs_succeeded, stats.succeeded, stats.occupancy) == (1, 0, 1)
    second.open()
    h.until(lambda: len(queue) == 0)
    h.pass_time(1)
    assert h.labels() == ["ran", "ran"]
    assert (queue.stats().accepted, queue.stats().succeeded) == (1, 1)


def test_attempts_restart_at_one(h: Harness) -> None:
    """70a duplicates: sent again while running: attempts restart at 1."""
    queue, gate = h.queue(), h.gate()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark(ctx.attempt)
        if len(h.log) == 1:
            raise RetryEnvelope(0)
        if len(h.log) == 2:
            gate.wait(ctx)
            raise RetryEnvelope(0)

    envelope = Envelope(invoke)
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    queue.send(envelope)
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [1, 2, 1]


def test_stop_envelope_wins_over_the_resend(h: Harness) -> None:
    """70a duplicates: StopEnvelope wins over the re-send."""
    queue, gate = h.queue(), h.gate()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark("ran")
        gate.wait(ctx)
        raise StopEnvelope

    envelope = Envelope(invoke)
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    queue.send(envelope)
    gate.open()
    h.until(lambda: len(queue) == 0)
    h.pass_time(1)
    assert h.labels() == ["ran"]
    assert queue.stats().stopped == 1


def test_a_drop_is_still_a_dead_letter(h: Harness) -> None:
    """70a duplicates: a drop before the re-sent run is still written to the dead letters."""
    queue, gate = h.queue(), h.gate()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark("ran")
        if len(h.log) == 1:
            gate.wait(ctx)
            raise ZeroDivisionError("first run")

    envelope = Envelope(invoke, failure_hook=lambda ctx, envelope, error: drop("no use"))
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    queue.send(envelope)
    gate.open()
    h.until(lambda: len(queue) == 0)
    queue.join()
    assert h.labels() == ["ran", "ran"]
    assert [letter.envelope for letter in queue.dead_letters()] == [envelope]
    assert "first run" in queue.dead_letters()[0].error
    assert (queue.stats().succeeded, queue.stats().dropped) == (1, 0)


def test_a_retry_delay_yields_to_the_earlier_time(h: Harness) -> None:
    """70a duplicates: a retry delay yields to the earlier time of the re-send."""
    queue, gate = h.queue(), h.gate()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark("ran")
        if len(h.log) == 1:
            gate.wait(ctx)
            raise ZeroDivisionError

    envelope = Envelope(invoke, failure_hook=lambda ctx, envelope, error: retry_after(h.s(1000)))
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    queue.send(envelope)
    gate.open()
    h.until(lambda: h.labels() == ["ran", "ran"])


def test_sent_again_with_a_delay_while_running(h: Harness) -> None:
    """70a duplicates: a re-send with a delay while running: the one run more is not before its time."""
    queue, gate = h.queue(), h.gate()
    envelope = Envelope(lambda ctx, envelope: h.mark("ran") or gate.wait(ctx))
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    sent_at = h.now()
    queue.send(envelope, delay=h.s(5))
    gate.open()
    h.until(lambda: len(h.log) == 2)
    assert h.times("ran")[1] - sent_at == h.about(5)


def test_every_submit_gets_the_final_outcome(h: Harness) -> None:
    """70a duplicates: every `submit` of it gets the outcome of the final run."""
    queue, gate = h.queue(), h.gate()

    def invoke(ctx: Any, envelope: Any) -> int:
        h.mark("ran")
        gate.wait(ctx)
        return len(h.log)

    envelope = Envelope(invoke)
    queue.start()
    first = queue.submit(envelope)
    h.until(lambda: gate.waiting)
    second = queue.submit(envelope)
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert (first.result(20), second.result(20)) == (2, 2)


def test_a_resend_of_a_delayed_retry_keeps_its_attempts(h: Harness) -> None:
    """70a duplicates: a re-send of a delayed retry keeps its attempts."""
    queue = h.queue()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark(ctx.attempt)
        if ctx.attempt == 1:
            raise RetryEnvelope(h.s(1000))

    envelope = Envelope(invoke)
    queue.start()
    queue.send(envelope)
    h.until(lambda: queue.stats().delayed)
    assert queue.send(envelope) == 0
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [1, 2]


def keyed(h: Harness, payload: Any, **options: Any) -> Envelope:
    """An envelope with the key "k" that marks its payload."""
    return Envelope(h.handler(), key="k", payload=payload, **options)


def test_keep_runs_the_first_that_waits(h: Harness) -> None:
    """70a duplicates: keep, the default, runs the first that waits."""
    queue = h.queue()
    queue.send(keyed(h, 1))
    queue.send(keyed(h, 2), keyed(h, 3))
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [1]


@pytest.mark.parametrize(("duplicates", "then"), [("keep", "second"), ("replace", "third")])
def test_resent_with_another_envelope_while_running(h: Harness, duplicates: str, then: str) -> None:
    """70a duplicates: while running, keep runs the first re-sent once more, replace the last."""
    queue, gate = h.queue(duplicates=duplicates), h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: h.mark("first") or gate.wait(ctx), key="k"))
    h.until(lambda: gate.waiting)
    queue.send(keyed(h, "second"))
    queue.send(keyed(h, "third"))
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["first", then]


def test_replace_keeps_the_place(h: Harness) -> None:
    """70a duplicates: replace keeps the place in the line."""
    queue = h.queue(duplicates="replace")
    queue.send(keyed(h, "old"), Envelope(h.handler("other")))
    queue.send(keyed(h, "new"))
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["new", "other"]


def test_replace_keeps_the_due_time(h: Harness) -> None:
    """70a duplicates: replace keeps the due time when that is the earlier one."""
    queue = h.queue(duplicates="replace")
    queue.start()
    began_at = h.now()
    queue.send(keyed(h, "old"), delay=h.s(5))
    queue.send(keyed(h, "new"), delay=h.s(50))
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["new"]
    assert h.times("new")[0] - began_at == h.about(5)


def test_replace_takes_policy_and_payload_of_the_new(h: Harness) -> None:
    """70a duplicates: replace: policy and payload are the new one's; a one-off may so become a periodic."""
    queue = h.queue(duplicates="replace")
    queue.send(keyed(h, "once"))
    assert queue.send(keyed(h, "often", interval=h.s(2))) == 0
    queue.start()
    h.until(lambda: len(h.log) >= 3)
    assert h.labels()[:3] == ["often", "often", "often"]
    assert len(queue) == 1


def test_replaced_by_a_periodic_a_join_is_done(h: Harness) -> None:
    """70a duplicates, join: when the last one-off becomes a periodic, there is nothing left to join."""
    queue = h.queue(duplicates="replace")
    queue.start()
    queue.send(keyed(h, "once"), delay=h.s(1000))
    queue.send(keyed(h, "often", interval=h.s(2000)))
    assert queue.join(timeout=1 if h.is_virtual else 20)


@pytest.mark.parametrize("duplicates", ["keep", "replace"])
def test_the_same_key_never_runs_twice_at_once(h: Harness, duplicates: str) -> None:
    """70a duplicates: the same key never runs twice at the same time: not across workers, stops or restarts."""
    queue = h.queue(workers=3, duplicates=duplicates)
    inside: list[Any] = []

    def invoke(ctx: Any, envelope: Any) -> None:
        inside.append(envelope)
        h.mark(len(inside))
        h.work(ctx, 0.5)
        inside.remove(envelope)

    for _ in range(4):
        queue.start()
        for _ in range(3):
            queue.send(*(Envelope(invoke, key="k") for _ in range(3)))
            h.pass_time(0.2)
        queue.stop()
    assert set(h.labels()) == {1}
    assert len(h.log) >= 4
