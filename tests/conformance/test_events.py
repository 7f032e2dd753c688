"""I-19 and CONTRACT 8, 9: what observers are told of sends, runs and outcomes, and that it is what the queue counts."""

from __future__ import annotations

import pytest

from rate_envelope_queue import (
    CapacityExceededError,
    Envelope,
    Outcome,
    QueueStateError,
    StopEnvelope,
    drop,
    retry_after,
)
from rate_envelope_queue.events import OBSERVABLE, Observer

from .harness import cooperative_only, unwatched_only, virtual_only
from .ledger import Everything, check_events
from .running import ample, fails_times, finish, marks, raises, started


def again(ctx, envelope, error):
    return retry_after(0.001) if ctx.attempt < 3 else drop("enough")


def test_i19_as_many_events_as_the_ledger_counts(h):
    """I-19: after every kind of send, run and outcome there are as many events of each as `stats` counts."""
    everything = Everything()
    queue = h.queue(capacity=8, workers=2, observers=(everything,))
    plain, held = Envelope(marks(h, "plain")), Envelope(marks(h, "held"), key="k")
    queue.send(plain, plain, Envelope(raises(StopEnvelope)))
    queue.send(held, delay=h.s(1000))
    queue.send(Envelope(fails_times(h, 2), failure_hook=again), Envelope(raises(ValueError), failure_hook=again))
    queue.send(Envelope.every(1000, marks(h, "period")))
    with pytest.raises(CapacityExceededError):
        queue.send(*[Envelope(print) for _ in range(3)])
    queue.start()
    finish_all_but(h, queue, {"held"})
    queue.cancel("k")
    finish(queue)
    check_events(everything, queue)
    stats = queue.stats()
    assert (stats.accepted, stats.coalesced, stats.refused, stats.retried) == (6, 1, 3, 4)
    queue.terminate()
    with pytest.raises(QueueStateError):
        queue.send(plain)
    check_events(everything, queue)
    assert [event.outcome for event in everything.of("ended")].count(Outcome.RETURNED) == 2
    assert {event.error.__class__.__name__ for event in everything.of("refused")} == {
        "CapacityExceededError", "QueueTerminatedError",
    }  # fmt: skip


def finish_all_but(h, queue, left):
    """Wait until nothing but the periodics and those of *left* is in the queue, delivered."""
    h.until(lambda: queue.stats().occupancy == 1 + len(left) and not queue.stats().running)


def test_i19_each_entry_is_told_in_order(h):
    """I-19: an entry is accepted, started, over and ended, in this order where one thread makes all that."""
    everything = Everything()
    queue = h.queue(observers=(everything,))
    once, retried = Envelope(marks(h, "run")), Envelope(fails_times(h, 1), failure_hook=again)
    stopped, dropped = Envelope(raises(StopEnvelope)), Envelope(raises(ValueError))
    queue.send(once, retried, stopped, dropped)
    queue.start()
    finish(queue)
    assert everything.about(once) == ["accepted", "started", "succeeded", "ended"]
    assert everything.about(stopped) == ["accepted", "started", "stopped", "ended"]
    assert everything.about(retried) == [
        "accepted", "started", "failed", "retried", "started", "succeeded", "ended",
    ]  # fmt: skip
    assert everything.about(dropped) == ["accepted", "started", "failed", "ended"]
    assert [event.letter.envelope for event in everything.of("dropped")] == [dropped]
    assert [event.attempt for event in everything.of("started") if event.envelope is retried] == [1, 2]


@virtual_only
def test_i19_the_times_that_events_tell(h):
    """I-19: `waited`, `latency`, `duration` and `age` are those of the clock: delays and backoff count as latency."""
    everything = Everything()
    queue = h.queue(observers=(everything,))

    def invoke(ctx, envelope):
        h.work(ctx, 2)
        if ctx.attempt == 1:
            raise ValueError

    first = Envelope(invoke, failure_hook=lambda *args: retry_after(5))
    second = Envelope(lambda ctx, envelope: h.work(ctx, 1))
    queue.send(first, delay=1)
    queue.send(second, delay=2)
    queue.start()
    finish(queue)
    started_ = [(event.envelope is first, event.waited, event.latency) for event in everything.of("started")]
    assert started_ == [(True, 0, 1), (False, 1, 3), (True, 0, 8)]
    (failed,) = everything.of("failed")
    assert (failed.duration, failed.latency) == (2, 1)
    assert [(event.duration, event.latency) for event in everything.of("succeeded")] == [(1, 3), (2, 8)]
    assert [event.age for event in everything.of("ended")] == [4, 10]


@virtual_only
def test_i19_a_periodic_is_late_by_what_it_waited(h):
    """I-19: the latency of a periodic's next run counts from when it was due, and its runs do not end it."""
    everything = Everything()
    queue = h.queue(observers=(everything,))
    queue.start()
    queue.send(Envelope.every(10, lambda ctx, envelope: h.work(ctx, 1)))
    h.pass_time(5)
    queue.send(Envelope(lambda ctx, envelope: h.work(ctx, 8)))
    h.pass_time(20)
    latencies = [event.latency for event in everything.of("started") if event.envelope.is_periodic]
    assert latencies == [0, 2, 0]
    assert [event.duration for event in everything.of("succeeded")] == [1, 8, 1, 1]
    assert len(everything.of("ended")) == 1


@pytest.mark.parametrize("resends", [1, 3])
def test_i19_a_send_during_the_run(h, resends):
    """I-19: two runs that succeed, one outcome: what is sent again while it runs ends once, after the last run."""
    everything, gate = Everything(), h.gate()
    queue = started(h, observers=(everything,))
    envelope = Envelope(lambda ctx, envelope: gate.wait(ctx))
    queue.send(envelope)
    h.until(lambda: gate.waiting)
    for _ in range(resends):
        queue.send(envelope)
    gate.open()
    finish(queue)
    check_events(everything, queue)
    counts = everything.counts()
    assert (counts["started"], counts["succeeded"], counts["coalesced"], counts["ended"]) == (2, 2, resends, 1)


@cooperative_only(see="test_asyncio_deadlines")
def test_i19_a_late_run(h):
    """I-19: a run that succeeds after its deadline is told as late, and as a success that is."""
    everything = Everything()
    queue = started(h, observers=(everything,))
    queue.send(Envelope.once(lambda ctx, envelope: ctx.wait(), deadline=h.s(0.1)))
    finish(queue)
    check_events(everything, queue)
    assert [event.is_late for event in everything.of("succeeded")] == [True]
    assert queue.stats().late == 1


@cooperative_only(see="test_asyncio_cancelling")
def test_i19_the_end_of_an_abandoned_run_is_no_second_event(h):
    """I-19: an abandoned run is told as abandoned; that it fails later is not counted, and not told."""
    everything, gate = Everything(), h.gate()
    queue = started(h, observers=(everything,))

    def invoke(ctx, envelope):
        gate.wait(ctx)
        raise ValueError

    queue.send(Envelope(invoke), Envelope(marks(h, "kept")))
    h.until(lambda: gate.waiting)
    queue.stop(timeout=0, grace=0)
    check_events(everything, queue)
    gate.open()
    h.until(lambda: queue.stats().abandoned_ended == 1)
    check_events(everything, queue)
    assert (everything.counts()["failed"], everything.counts()["abandoned"]) == (0, 1)


def test_i19_a_cancelled_run_goes_on_later(h):
    """I-19: a run that a stop cancels is told as cancelled, and its entry ends once, when it has run again."""
    everything = Everything()
    queue = h.queue(observers=(everything,))

    def invoke(ctx, envelope):
        h.mark("in")
        if len(h.labels()) == 1:
            ctx.wait()
            ctx.check()

    envelope = Envelope(invoke)
    queue.start()
    queue.send(envelope)
    h.until(lambda: "in" in h.labels())
    queue.stop(timeout=0, grace=ample(h, 1))
    check_events(everything, queue)
    queue.start()
    finish(queue)
    check_events(everything, queue)
    assert everything.about(envelope) == ["accepted", "started", "cancelled", "started", "succeeded", "ended"]


@unwatched_only
def test_an_observer_may_come_and_go_while_the_queue_runs(h):
    """2: `add_observer` and `remove_observer` at any time: from then on it is told, or not; an entry that was there
    has no times."""
    everything = Everything()
    queue = started(h)
    queue.pause()
    queue.send(Envelope(marks(h, "before")))
    queue.add_observer(everything)
    with pytest.raises(ValueError, match="observes the queue already"):
        queue.add_observer(everything)
    queue.send(Envelope(marks(h, "seen")))
    queue.resume()
    finish(queue)
    counts = everything.counts()
    assert (counts["accepted"], counts["started"], counts["succeeded"], counts["ended"]) == (1, 2, 2, 2)
    before, seen = everything.of("succeeded")
    assert (before.latency, seen.latency is None) == (None, False)
    assert queue.remove_observer(everything) is True
    assert queue.remove_observer(everything) is False
    queue.send(Envelope(marks(h, "after")))
    finish(queue)
    assert everything.counts()["started"] == 2
    assert h.labels() == ["before", "seen", "after"]


def test_an_observer_of_everything_may_use_the_queue(h):
    """9: no event is told with the lock held: an observer may look, send and cancel at each of them."""
    found = set()

    class Busy(Everything):
        pass

    def busy(name):
        def hear(self, event):
            found.add(name)
            queue.stats()
            queue.cancel("nobody")
            queue.snapshot()

        return hear

    for name in OBSERVABLE:
        setattr(Busy, f"on_{name}", busy(name))
    queue = h.queue(observers=(Busy(),), capacity=4)
    queue.start()
    envelope = Envelope(fails_times(h, 1), failure_hook=again)
    queue.send(envelope, envelope)
    with pytest.raises(CapacityExceededError):
        queue.send(*[Envelope(print) for _ in range(9)])
    queue.send(Envelope(raises(ValueError)), Envelope(raises(StopEnvelope)))
    finish(queue)
    queue.terminate()
    assert found >= {
        "accepted", "coalesced", "refused", "started", "failed", "retried", "succeeded", "stopped", "dropped", "ended",
        "state_changed",
    }  # fmt: skip


def test_an_observer_that_fails_at_each_run_is_left_out_for_good(h):
    """9: one that raises is logged and not called again for that event; for the others it is."""

    class Fails(Observer):
        def on_started(self, event):
            h.mark("started")
            raise ValueError("no")

        def on_succeeded(self, event):
            h.mark("succeeded")

    queue = started(h, observers=(Fails(),))
    for _ in range(3):
        queue.send(Envelope(marks(h, "run")))
        finish(queue)
    assert h.labels() == ["started", "run", "succeeded", "run", "succeeded", "run", "succeeded"]


@unwatched_only
def test_what_nobody_listens_to_is_not_made(h, monkeypatch):
    """An observer costs nothing for what it does not listen to: no event of that kind is made."""
    made = []
    from rate_envelope_queue import events

    monkeypatch.setattr(events, "FACTS", events.FACTS)
    for name, kind in list(events.FACTS.items()):
        monkeypatch.setitem(events.FACTS, name, lambda *facts, kind=kind, name=name: made.append(name) or kind(*facts))
    everything = Everything()

    class Quiet(Observer):
        def on_failed(self, event):
            everything.told.append(("failed", event))

    queue = started(h, observers=(Quiet(),))
    queue.send(Envelope(marks(h, "run")), Envelope(raises(ValueError)))
    finish(queue)
    queue.stop()
    assert made == ["failed"]
    (failed,) = everything.of("failed")
    assert (failed.duration, failed.latency) == (None, None)


# Measuring


@unwatched_only
@virtual_only
def test_what_is_measured(h):
    """11: `measured` tells depth, adds, retries, waits, latencies, runs, and what is going on now."""
    queue = h.queue()
    assert queue.measured() is None
    queue.start_measuring()
    envelope = Envelope(lambda ctx, envelope: h.work(ctx, 2) or fails_once(ctx), failure_hook=again)

    def fails_once(ctx):
        if ctx.attempt == 1:
            raise ValueError

    queue.send(envelope, Envelope(lambda ctx, envelope: h.work(ctx, 1)))
    queue.send(Envelope(marks(h, "later")), delay=20)
    h.pass_time(1)
    assert (queue.measured().depth, queue.measured().adds) == (2, 2)
    queue.start()
    h.pass_time(0.5)
    queue.send(envelope)
    queue.send(envelope)
    measured = queue.measured()
    assert (measured.depth, measured.adds, measured.unfinished, measured.longest) == (2, 3, 0.5, 0.5)
    assert (measured.waited.total, measured.latency.count, measured.ran.count) == (1, 1, 0)
    finish(queue)
    measured = queue.measured()
    assert (measured.depth, measured.adds, measured.unfinished, measured.longest) == (0, 5, 0, 0)
    assert (measured.ran.count, measured.ran.total) == (5, pytest.approx(2 + 1 + 2 + 2 + 0))
    queue.stop_measuring()
    assert queue.measured() is None
    with pytest.raises(QueueStateError, match="start_measuring"):
        queue.stop_measuring()


@unwatched_only
def test_a_queue_measures_for_whoever_asked(h):
    """11: `start_measuring` on a running queue; it measures until the last of them has stopped it."""
    queue = started(h)
    queue.send(Envelope(marks(h, "before")))
    finish(queue)
    queue.start_measuring()
    queue.start_measuring()
    queue.stop_measuring()
    for _ in range(3):
        queue.send(Envelope(marks(h, "run")))
        finish(queue)
    measured = queue.measured()
    assert (measured.adds, measured.ran.count, measured.waited.count) == (4, 3, 3)
    assert measured.ran.total >= 0
    assert sum(measured.ran.counts) == 3
