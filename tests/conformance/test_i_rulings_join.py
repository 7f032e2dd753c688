"""Line 70a for join: each ruling of CONTRACT 7 is a test."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import Envelope, QueueStateError, RetryEnvelope, StopMode, drop

from .harness import Harness


def noop(ctx: Any, envelope: Any) -> None: ...


def test_waits_for_one_offs(h: Harness) -> None:
    """70a join: waits until no one-off is in the queue."""
    queue = h.queue()
    queue.send(*(Envelope(h.handler(number, seconds=1)) for number in range(3)))
    queue.start()
    assert queue.join() is True
    assert (h.labels(), len(queue), queue.stats().succeeded) == ([0, 1, 2], 0, 3)


def test_waits_for_the_delayed(h: Harness) -> None:
    """70a join: delayed ones included."""
    queue = h.queue()
    queue.start()
    began_at = h.now()
    queue.send(Envelope(h.handler("ran")), delay=h.s(5))
    assert queue.join() is True
    assert h.labels() == ["ran"]
    assert h.now() - began_at == h.about(5)


def test_waits_for_the_retrying(h: Harness) -> None:
    """70a join: retrying ones included."""
    queue = h.queue()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark(ctx.attempt)
        if ctx.attempt < 3:
            raise RetryEnvelope(h.s(2))

    queue.start()
    queue.send(Envelope(invoke))
    assert queue.join() is True
    assert h.labels() == [1, 2, 3]


def test_waits_for_a_resend(h: Harness) -> None:
    """70a join: a re-send of what runs is waited for too."""
    queue = h.queue()
    gate = h.gate()
    envelope = Envelope(lambda ctx, envelope: h.mark("ran") or gate.wait(ctx))
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    queue.send(envelope)
    gate.open()
    assert queue.join() is True
    assert h.labels() == ["ran", "ran"]


def test_does_not_wait_for_periodics(h: Harness) -> None:
    """70a join: a periodic that waits for its next time is not waited for."""
    queue = h.queue()
    queue.start()
    queue.send(Envelope.every(h.s(1000), h.handler("periodic")), Envelope(h.handler("once")))
    assert queue.join() is True
    assert h.labels() == ["periodic", "once"]
    assert len(queue) == 1


def test_waits_for_a_periodic_that_runs(h: Harness) -> None:
    """70a join: and nothing runs: a periodic in the middle of a run is waited for."""
    queue = h.queue()
    queue.start()
    queue.send(Envelope.every(h.s(1000), lambda ctx, envelope: h.mark("in") or h.work(ctx, 3) or h.mark("out")))
    h.until(lambda: h.labels() == ["in"])
    assert queue.join() is True
    assert h.labels() == ["in", "out"]
    assert queue.stats().running == 0


def test_with_nothing_to_wait_for(h: Harness) -> None:
    """70a join: with nothing to wait for it returns True at once, in every state."""
    queue = h.queue()
    assert queue.join() is True
    queue.start()
    assert queue.join(timeout=0) is True
    queue.stop()
    assert queue.join() is True
    queue.terminate()
    assert queue.join() is True


def test_timeout(h: Harness) -> None:
    """70a join: False when *timeout* has passed first, and not before."""
    queue = h.queue()
    queue.start()
    queue.send(Envelope(h.handler("ran")), delay=h.s(1000))
    assert queue.join(timeout=0) is False
    began_at = h.now()
    assert queue.join(timeout=h.s(2)) is False
    assert h.now() - began_at == h.about(2)
    assert h.labels() == []


def test_returns_after_the_dead_letters(h: Harness) -> None:
    """70a join: returns after the dead letters of what it waited for were delivered."""
    queue = h.queue(workers=4, dead_letter_limit=100)

    def invoke(ctx: Any, envelope: Any) -> None:
        raise ZeroDivisionError

    queue.start()
    for round_ in range(3 if h.is_virtual else 50):
        queue.send(Envelope(invoke, failure_hook=lambda *_: drop()))
        assert queue.join() is True
        assert len(queue.dead_letters()) == round_ + 1


def test_returns_after_the_futures(h: Harness) -> None:
    """70a join: returns after the futures of what it waited for were resolved and their callbacks called."""
    queue = h.queue(workers=4)
    queue.start()
    for number in range(3 if h.is_virtual else 50):
        future = queue.submit(Envelope(h.handler(), payload=number))
        future.add_done_callback(lambda future: h.mark(("called", future.result())))
        assert queue.join() is True
        assert future.done()
        assert h.labels()[-1] == ("called", number)


def test_returns_after_the_events(h: Harness) -> None:
    """70a join: returns after the events of what it waited for were delivered."""

    class Observer:
        seen = 0

        def on_failed(self, event: Any) -> None:
            self.seen += 1

    observer = Observer()
    queue = h.queue(observers=[observer])

    def invoke(ctx: Any, envelope: Any) -> None:
        raise ZeroDivisionError

    queue.start()
    for number in range(3 if h.is_virtual else 20):
        queue.send(Envelope(invoke))
        assert queue.join() is True
        assert observer.seen == number + 1


def test_stop_returns_after_the_effects(h: Harness) -> None:
    """70a join: so does `stop`."""
    queue = h.queue(workers=4)

    def invoke(ctx: Any, envelope: Any) -> None:
        raise ZeroDivisionError

    for number in range(3 if h.is_virtual else 20):
        queue.start()
        future = queue.submit(Envelope(invoke))
        queue.stop()
        assert future.done()
        assert len(queue.dead_letters()) == number + 1


@pytest.mark.parametrize("mode", list(StopMode))
def test_pending_when_one_offs_are_kept(h: Harness, mode: StopMode) -> None:
    """70a join: pending when the queue stops with one-offs kept -> QueueStateError."""
    queue = h.queue()
    queue.start()
    queue.send(Envelope(noop), delay=h.s(1000))
    joining = h.in_background(queue.join)
    h.pass_time(1)
    assert not joining.done
    queue.stop(mode)
    with pytest.raises(QueueStateError):
        joining.result()


def test_begun_during_the_stop(h: Harness) -> None:
    """70a join: begun while the queue stops: QueueStateError when one-offs are kept, True when none are."""
    for mode, answer in ((StopMode.STOP, QueueStateError), (StopMode.DRAIN, True)):
        queue, gate = h.queue(), h.gate()
        queue.start()
        queue.send(Envelope(lambda ctx, envelope, gate=gate: gate.wait(ctx)), Envelope(noop))
        h.until(lambda gate=gate: gate.waiting)
        queue.stop(mode, wait=False)
        joining = h.in_background(queue.join)
        h.pass_time(1)
        gate.open()
        if answer is True:
            assert joining.result() is True
        else:
            with pytest.raises(QueueStateError):
                joining.result()


def test_pending_when_nothing_is_kept(h: Harness) -> None:
    """70a join: pending when the queue stops and has drained: True."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx)), Envelope(noop))
    h.until(lambda: gate.waiting)
    joining = h.in_background(queue.join)
    h.pass_time(1)
    queue.stop(StopMode.DRAIN, wait=False)
    gate.open()
    assert joining.result() is True


def test_pending_when_only_periodics_are_kept(h: Harness) -> None:
    """70a join: pending when the queue stops with only periodics kept: True."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    queue.send(Envelope.every(h.s(1), lambda ctx, envelope: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    joining = h.in_background(queue.join)
    h.pass_time(1)
    queue.stop(wait=False)
    gate.open()
    assert joining.result() is True


def test_pending_when_all_is_cleared(h: Harness) -> None:
    """70a join: when what it waits for is cancelled or cleared there is nothing left to wait for: True."""
    queue = h.queue()
    queue.start()
    envelope = Envelope(noop)
    for take_out in (lambda: queue.cancel(envelope), queue.clear):
        queue.send(envelope, delay=h.s(1000))
        joining = h.in_background(queue.join)
        h.pass_time(1)
        assert not joining.done
        take_out()
        assert joining.result() is True


def test_pending_when_terminated(h: Harness) -> None:
    """70a join: pending when the queue is terminated: nothing is kept, so it ends."""
    queue = h.queue()
    queue.start()
    queue.send(Envelope(noop), delay=h.s(1000))
    joining = h.in_background(queue.join)
    h.pass_time(1)
    queue.terminate()
    assert joining.result() is True


def test_in_init(h: Harness) -> None:
    """70a join: in INIT with something to wait for -> QueueStateError."""
    queue = h.queue()
    queue.send(Envelope(noop))
    with pytest.raises(QueueStateError):
        queue.join()
    with pytest.raises(QueueStateError):
        queue.join(timeout=h.s(1))


def test_when_stopped(h: Harness) -> None:
    """70a join: in STOPPED with something to wait for -> QueueStateError; periodics are nothing to wait for."""
    queue = h.queue()
    queue.start()
    queue.pause()
    queue.send(Envelope.every(h.s(5), noop))
    queue.stop()
    assert queue.join() is True
    queue.start()
    queue.send(Envelope(noop))
    queue.stop()
    with pytest.raises(QueueStateError):
        queue.join()


@pytest.mark.parametrize("hook", ["invoke", "before_hook", "success_hook"])
def test_from_its_own_handler(h: Harness, hook: str) -> None:
    """70a join: from its own handler or hook -> QueueStateError, since it would wait for itself."""
    queue = h.queue()

    def join(ctx: Any, envelope: Any) -> None:
        with pytest.raises(QueueStateError):
            ctx.queue.join()
        h.mark("refused")

    queue.start()
    queue.send(Envelope(**{"invoke": noop, hook: join}))
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["refused"]


def test_from_the_handler_of_another_queue(h: Harness) -> None:
    """70a join: the handler of another queue may join this one."""
    queue, other = h.queue("joined"), h.queue("joining")
    queue.start()
    other.start()
    queue.send(Envelope(h.handler("joined", seconds=2)))
    other.send(Envelope(lambda ctx, envelope: h.mark(queue.join())))
    h.until(lambda: len(h.log) == 2)
    assert h.labels() == ["joined", True]


def test_several_at_once(h: Harness) -> None:
    """70a join: several joins of one queue all return."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    joins = [h.in_background(queue.join) for _ in range(5)]
    h.pass_time(1)
    assert not any(join.done for join in joins)
    gate.open()
    assert [join.result() for join in joins] == [True] * 5
