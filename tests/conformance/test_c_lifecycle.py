"""Section C: lifecycle, buffer, order and duplicates."""

from __future__ import annotations

from typing import Any

import pytest

from rate_envelope_queue import (
    CapacityExceededError,
    Envelope,
    QueueNotRunningError,
    QueueState,
    QueueStateError,
    QueueTerminatedError,
    StopMode,
)

from .harness import Harness


def noop(ctx: Any, envelope: Any) -> None: ...


def test_c9_what_is_sent_in_init_runs_after_start(h: Harness) -> None:
    """C9: send in init, start -> it runs; not before."""
    queue = h.queue()
    queue.send(Envelope(h.handler("ran")))
    h.pass_time(1)
    assert h.labels() == []
    assert (queue.state, queue.stats().buffered, queue.stats().ready) == (QueueState.INIT, 1, 0)
    queue.start()
    h.until(lambda: h.labels() == ["ran"])


def test_c10_stop_start_send_another(h: Harness) -> None:
    """C10: then stop, start, send another -> it runs."""
    queue = h.queue()
    queue.send(Envelope(h.handler("first")))
    queue.start()
    h.until(lambda: h.labels() == ["first"])
    queue.stop()
    queue.start()
    queue.send(Envelope(h.handler("second")))
    h.until(lambda: h.labels() == ["first", "second"])


def test_c11_three_sends_three_runs(h: Harness) -> None:
    """C11: three sends in init, start -> exactly 3 runs."""
    queue = h.queue()
    for number in range(3):
        queue.send(Envelope(h.handler(number)))
    queue.start()
    h.until(lambda: len(h.log) == 3)
    h.pass_time(1)
    assert len(h.log) == 3
    assert queue.stats().runs_started == 3


def test_c12_one_worker_keeps_the_order(h: Harness) -> None:
    """C12: one worker: send(a, b) -> order a, b; the buffered are made ready in order."""
    queue = h.queue()
    queue.send(Envelope(h.handler("a")), Envelope(h.handler("b")))
    queue.start()
    h.until(lambda: len(h.log) == 2)
    queue.send(Envelope(h.handler("c")), Envelope(h.handler("d")))
    h.until(lambda: len(h.log) == 4)
    assert h.labels() == ["a", "b", "c", "d"]


def test_c13_send_after_stop(h: Harness) -> None:
    """C13: start, stop, send -> QueueNotRunningError."""
    queue = h.queue()
    queue.start()
    queue.stop()
    assert queue.state is QueueState.STOPPED
    with pytest.raises(QueueNotRunningError):
        queue.send(Envelope(noop))
    with pytest.raises(QueueNotRunningError):
        queue.send_wait(Envelope(noop))
    with pytest.raises(QueueNotRunningError):
        queue.submit(Envelope(noop))


def test_c13_send_while_stopping(h: Harness) -> None:
    """C13 (CONTRACT 7): send while stopping -> QueueNotRunningError, also of what is running."""
    queue, gate = h.queue(), h.gate()
    running = Envelope(lambda ctx, envelope: gate.wait(ctx))
    queue.send(running)
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(wait=False)
    assert queue.state is QueueState.STOPPING
    for envelope in (Envelope(noop), running):
        with pytest.raises(QueueNotRunningError):
            queue.send(envelope)


def test_c14_the_same_envelope_again_after_a_restart(h: Harness) -> None:
    """C14: start; send; stop; start; send(same); stop -> both accepted."""
    queue = h.queue()
    envelope = Envelope(h.handler("ran"))
    for _ in range(2):
        queue.start()
        assert queue.send(envelope) == 1
        queue.stop()
    assert h.labels() == ["ran", "ran"]
    assert queue.stats().accepted == 2


def test_c16_sent_four_times_while_waiting(h: Harness) -> None:
    """C16: the worker held on a gate: send(e, e, e), send(e) -> exactly 1 run."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    envelope = Envelope(h.handler("ran"))
    assert queue.send(envelope, envelope, envelope) == 1
    assert queue.send(envelope) == 0
    gate.open()
    h.until(lambda: h.labels() == ["ran"])
    h.pass_time(1)
    assert h.labels() == ["ran"]


def test_c16_sent_again_in_flight(h: Harness) -> None:
    """C16: with e in flight: exactly 1 run more, however many sends."""
    queue, gate = h.queue(workers=3), h.gate()

    def invoke(ctx: Any, envelope: Any) -> None:
        h.mark("ran")
        gate.wait(ctx)

    envelope = Envelope(invoke)
    queue.start()
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    for _ in range(5):
        assert queue.send(envelope, envelope) == 0
    h.pass_time(1)
    assert h.labels() == ["ran"]
    gate.open()
    h.until(lambda: len(queue) == 0)
    h.pass_time(1)
    assert h.labels() == ["ran", "ran"]


def test_c17_terminate_then_send(h: Harness) -> None:
    """C17: start; stop; terminate; send -> QueueTerminatedError, state terminated."""
    queue = h.queue()
    queue.start()
    queue.stop()
    queue.terminate()
    assert queue.state is QueueState.TERMINATED
    with pytest.raises(QueueTerminatedError):
        queue.send(Envelope(noop))
    with pytest.raises(QueueTerminatedError):
        queue.send_wait(Envelope(noop))
    with pytest.raises(QueueTerminatedError):
        queue.submit(Envelope(noop))
    assert queue.state is QueueState.TERMINATED


def test_c18_terminate_then_start(h: Harness) -> None:
    """C18: terminate, then start -> QueueTerminatedError; no run ever."""
    queue = h.queue()
    buffered = Envelope(h.handler("ran"))
    queue.send(buffered)
    report = queue.terminate()
    assert report.returned == (buffered,)
    with pytest.raises(QueueTerminatedError):
        queue.start()
    h.pass_time(1)
    assert h.labels() == []
    assert queue.state is QueueState.TERMINATED


def test_c19_one_key_never_twice_at_once(h: Harness) -> None:
    """C19: two envelopes with one key: never at the same time."""
    queue = h.queue(workers=2)
    inside = set()

    def invoke(ctx: Any, envelope: Any) -> None:
        assert not inside
        inside.add(envelope)
        h.mark(envelope.payload)
        h.work(ctx, 1)
        inside.remove(envelope)

    queue.start()
    queue.send(Envelope(invoke, key="k", payload="a"))
    h.until(lambda: h.labels() == ["a"])
    queue.send(Envelope(invoke, key="k", payload="b"))
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["a", "b"]
    assert queue.stats().runs_failed == 0


def test_c20_replace_runs_the_newer_payload_once(h: Harness) -> None:
    """C20: duplicates="replace" runs the newer payload once."""
    queue = h.queue(duplicates="replace")
    for payload in ("old", "new", "newest"):
        queue.send(Envelope(h.handler(), key="k", payload=payload))
    queue.start()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == ["newest"]


def test_c_states(h: Harness) -> None:
    """C (CONTRACT 7): init -> running -> stopping -> stopped -> running, and terminated."""
    queue, gate = h.queue(), h.gate()
    seen = [queue.state]
    queue.start()
    seen.append(queue.state)
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx)))
    h.until(lambda: gate.waiting)
    queue.stop(wait=False)
    seen.append(queue.state)
    gate.open()
    queue.stop()
    seen.append(queue.state)
    queue.start()
    seen.append(queue.state)
    queue.terminate()
    seen.append(queue.state)
    assert [state.name for state in seen] == ["INIT", "RUNNING", "STOPPING", "STOPPED", "RUNNING", "TERMINATED"]


def test_c_start_while_running(h: Harness) -> None:
    """C (CONTRACT 7): start while running does nothing."""
    queue, gate = h.queue(), h.gate()
    queue.start()
    queue.start()
    queue.send(*(Envelope(lambda ctx, envelope: gate.wait(ctx)) for _ in range(2)))
    h.until(lambda: gate.waiting)
    h.pass_time(0.5)
    assert gate.waiting == queue.stats().running == 1  # still one worker


def test_c_start_while_stopping(h: Harness) -> None:
    """C (CONTRACT 7): start while stopping raises QueueStateError."""
    queue, gate = h.queue(), h.gate()
    queue.send(Envelope(lambda ctx, envelope: gate.wait(ctx)))
    queue.start()
    h.until(lambda: gate.waiting)
    queue.stop(wait=False)
    with pytest.raises(QueueStateError):
        queue.start()


def test_c_capacity_applies_in_init(h: Harness) -> None:
    """C (CONTRACT 7): in init a send buffers, and capacity applies."""
    queue = h.queue(capacity=1)
    queue.send(Envelope(noop))
    with pytest.raises(CapacityExceededError):
        queue.send(Envelope(noop))


def test_c_terminate_in_init_and_twice(h: Harness) -> None:
    """C (CONTRACT 7): terminated is reached from any state, and stays."""
    queue = h.queue()
    first = queue.terminate()
    assert (first.state, queue.state) == (QueueState.TERMINATED, QueueState.TERMINATED)
    assert queue.terminate() == queue.stop() == queue.last_report == first


def test_c_with(h: Harness) -> None:
    """C (CONTRACT 2): with starts on entry and stops on exit with the queue's own mode."""
    queue = h.queue(stop_mode=StopMode.DRAIN)
    with queue as entered:
        assert entered is queue
        assert queue.state is QueueState.RUNNING
        queue.send(*(Envelope(h.handler(number, seconds=1)) for number in range(3)))
    assert queue.state is QueueState.STOPPED
    assert h.labels() == [0, 1, 2]
    assert queue.last_report.mode is StopMode.DRAIN


def test_c_with_own_mode_stop(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """C (CONTRACT 7): when with leaves entries kept, one WARNING gives the count; last_report holds the report."""
    kept = [Envelope(h.handler("never")) for _ in range(3)]
    with h.queue(stop_mode=StopMode.STOP) as queue:
        queue.send(Envelope(lambda ctx, envelope: h.await_stop(ctx)), *kept)
        h.until(lambda: queue.stats().running)
    assert queue.last_report.kept == tuple(kept)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "3" in warnings[0].getMessage()
    assert warnings[0].name.startswith("rate_envelope_queue")


def test_c_with_that_keeps_nothing_warns_of_nothing(h: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """C (CONTRACT 7): when with leaves nothing, no WARNING is logged."""
    with h.queue() as queue:
        queue.send(Envelope(noop))
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_c_with_after_an_exception(h: Harness) -> None:
    """C (CONTRACT 2): with stops in mode STOP after an exception, which is raised on."""
    queue = h.queue(stop_mode=StopMode.DRAIN)
    waiting = Envelope(h.handler("never"))

    def program() -> None:
        with queue:
            queue.send(Envelope(lambda ctx, envelope: h.await_stop(ctx)), waiting)
            h.until(lambda: queue.stats().running)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program()
    assert queue.last_report.mode is StopMode.STOP
    assert queue.last_report.kept == (waiting,)


def test_c_an_envelope_in_two_queues(h: Harness) -> None:
    """C (CONTRACT 2): one envelope may be in several queues."""
    one, other = h.queue("one"), h.queue("other")
    envelope = Envelope(lambda ctx, envelope: h.mark(ctx.queue.name))
    assert one.send(envelope) == other.send(envelope) == 1
    one.start()
    other.start()
    h.until(lambda: len(h.log) == 2)
    assert sorted(h.labels()) == ["one", "other"]


def test_c_handler_makes_an_envelope_type(h: Harness) -> None:
    """C (CONTRACT 2): handler(type, **policy) makes an EnvelopeType of a function."""
    queue = h.queue()

    @queue.handler("mail", deadline=3, max_attempts=2)
    def mail(ctx: Any, envelope: Any) -> str:
        """Sends it."""
        h.mark(envelope.payload)
        return "sent"

    envelope = mail.envelope("ann", id=1)
    assert (envelope.type, envelope.deadline, envelope.max_attempts, envelope.id) == ("mail", 3.0, 2, 1)
    assert mail.__doc__ == "Sends it."
    assert mail(None, envelope) == "sent"  # still callable as the function it was made of
    queue.start()
    queue.send(envelope)
    h.until(lambda: h.labels() == ["ann", "ann"])


def test_c_name_len_and_repr(h: Harness) -> None:
    """C (CONTRACT 2): name is as given, and len(queue) is the occupancy."""
    queue = h.queue("mails")
    assert queue.name == "mails"
    assert "mails" in repr(queue)
    queue.send(Envelope(noop), Envelope(noop))
    assert len(queue) == queue.stats().occupancy == 2
