"""The machine by itself: places in the ready queue, futures, and what the limiter is told."""

from __future__ import annotations

import pytest

from rate_envelope_queue.core import effects
from rate_envelope_queue.core.entries import Lanes
from rate_envelope_queue.core.settle import RUN_SUCCEEDED, cancelled, dropped, next_period, stopped
from rate_envelope_queue.core.waiting import Waiter
from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.errors import (
    InvalidEnvelopeError,
)
from rate_envelope_queue.results import Outcome

from .machine_world import World, handler, many, plain, retry

LONG = 100  # envelopes: in a shorter ready queue, debris is cleared away at once


def test_s15_the_first_priority_drops_the_debris() -> None:
    """S15: the first priority makes lanes of the ready queue; what was cancelled stays behind, counts are reset."""
    world, envelopes = World(), many(LONG)
    world.send(*envelopes)
    world.cancel(envelopes[1])
    world.cancel(envelopes[2])
    assert sum(world.machine.skip.values()) == 2
    urgent = Envelope(handler, priority=1)
    world.send(urgent)
    assert isinstance(world.machine.ready, Lanes)
    assert (world.machine.skip, world.machine.stale) == ({}, 0)
    world.send(envelopes[1])
    assert world.take_all() == [urgent, envelopes[0], *envelopes[3:], envelopes[1]]


def test_s15_entries_among_the_debris() -> None:
    """S15: the same for debris of entries: keyed envelopes that were cancelled."""
    world, envelopes = World(), [Envelope(handler, key=number) for number in range(LONG)]
    world.send(*envelopes)
    world.cancel(0)
    world.cancel(2)
    assert world.machine.stale == 2
    lazy = Envelope(handler, priority=-1)
    world.send(lazy)
    assert world.machine.stale == 0
    world.send(envelopes[0])
    assert world.take_all() == [envelopes[1], *envelopes[3:], envelopes[0], lazy]


@pytest.mark.parametrize("waits", [False, True])
def test_s15_a_priority_may_come_with_a_resend(waits: bool) -> None:
    """S15: the first priority may come in by a re-send or a replacement: it counts when next readied."""
    world = World(is_replacing=waits)
    world.send(Envelope(handler, key="k"))
    running = None if waits else world.take()
    urgent = Envelope(handler, key="k", priority=5)
    others = many(2)
    if waits:
        world.send(urgent)  # keeps its place, which is the first anyway
        running = world.take()
    world.send(*others)
    if waits:
        world.end(running, retry())
    else:
        world.send(urgent)
        world.end(running)
    assert world.take_all() == [urgent, *others]


def test_s16_noted_while_waiting_then_cancelled() -> None:
    """S16: a waiting plain envelope is noted by a submit: its place is still held by the envelope."""
    world, envelopes = World(), many(LONG)
    world.send(*envelopes)
    world.send(envelopes[0], future="future")
    assert world.cancel(envelopes[0])
    assert (dict(world.machine.skip), world.machine.stale) == ({envelopes[0]: 1}, 0)
    world.send(envelopes[0])
    assert world.take_all() == [*envelopes[1:], envelopes[0]]
    assert world.found(effects.ENDED) == [(effects.ENDED, ["future"], Outcome.RETURNED, None, None)]


def test_s16_noted_again_after_that() -> None:
    """S16: cancelled, sent again, noted again, cancelled again: two places to pass over, and the last one runs."""
    world, envelope, others = World(), plain(), many(LONG)
    world.send(*others)
    for _ in range(2):
        world.send(envelope)
        world.send(envelope, future="future")
        world.cancel(envelope)
    world.send(envelope)
    assert world.machine.skip == {envelope: 2}
    assert world.take_all() == [*others, envelope]
    assert (world.machine.skip, world.machine.calm) == ({}, True)


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("times", [1, 2, 200])
def test_s17_cancelled_and_sent_again(times: int, key: str | None) -> None:
    """S17: it runs once, at its new place, and what it left behind is bounded."""
    world, envelope, others = World(), Envelope(handler, key=key), many(2)
    world.send(envelope)
    world.send(*others)
    for _ in range(times):
        assert world.cancel(key or envelope)
        assert world.send(envelope) == 1
    assert len(world.machine.ready) < 140
    assert world.ready() == [*others, envelope]
    assert world.take_all() == [*others, envelope]


def test_s18_replaced_by_a_periodic() -> None:
    """S18: the last one-off becomes a periodic by a replacement: who joins is answered in that section."""
    world = World(is_replacing=True)
    world.send(Envelope(handler, key="k"))
    waiter = Waiter()
    assert world.done(world.machine.join(waiter)) is False
    periodic = Envelope(handler, key="k", interval=5)
    world.machine.send([periodic], None, {periodic: (0.0, 0.0)})
    world.done()
    assert waiter.is_done
    assert world.found(effects.SIGNAL) == [(effects.SIGNAL, waiter)]


def test_s18_a_resend_makes_it_a_periodic() -> None:
    """S18: the same when the periodic came as a re-send of what runs: the join ends with that run."""
    world = World()
    world.send(Envelope(handler, key="k"))
    running = world.take()
    waiter = Waiter()
    world.machine.join(waiter)
    periodic = Envelope(handler, key="k", interval=5)
    world.machine.send([periodic], None, {periodic: (0.0, 0.0)})
    world.done()
    assert not waiter.is_done
    world.end(running)
    assert waiter.is_done
    assert world.take_all() == [periodic]


def test_s19_a_periodic_cancelled_during_its_run() -> None:
    """S19: cancelled during its run, then the stop: RETURNED, not kept."""
    world, periodic = World(), Envelope(handler, interval=5)
    world.machine.send([periodic], None, {periodic: (0.0, 0.0)})
    running = world.take()
    world.cancel(periodic)
    world.stop()
    world.end(running, next_period(RUN_SUCCEEDED, 5, 5, error=None, is_late=False))
    assert (world.report().kept, world.machine.count(Outcome.RETURNED)) == ((), 1)


def test_s19_a_run_cancelled_by_the_stop_keeps_its_attempt() -> None:
    """S19: the second attempt is cancelled by the stop: kept, due at once, and still the second."""
    world, envelope = World(), plain()
    world.send(envelope)
    handle = world.turn(world.take(), retry())
    assert handle.attempt == 2
    world.stop(timeout=3, grace=9)
    world.at(3)
    assert world.found(effects.CANCEL)
    world.end(handle, cancelled())
    assert (world.report().kept, world.report().timed_out) == ((envelope,), True)
    world.start()
    assert world.take().attempt == 2


def test_s20_fewer_workers_than_runs() -> None:
    """S20: resized from 3 to 1 while three run: their ends start nothing until fewer than one runs."""
    world, envelopes = World(workers=3), many(6)
    world.send(*envelopes)
    running = [world.take() for _ in range(3)]
    world.machine.resize(1)
    assert world.turn(running[0]) is None
    assert world.turn(running[1]) is None
    assert world.turn(running[2]) is envelopes[3]
    assert world.take() is None
    world.end(envelopes[3])
    assert world.take_all() == envelopes[4:]
    assert world.machine.calm


def test_s22_every_future_gets_the_last_value() -> None:
    """S22: submitted around a run, both futures get the value of the last; after a cancel, that of this run."""
    for is_cancelled, value in ((False, "second"), (True, "first")):
        world, envelope = World(), plain()
        world.send(envelope, future="one")
        running = world.take()
        world.send(envelope, future="two")
        if is_cancelled:
            world.cancel(envelope)
        world.end(running, value="first")
        if not is_cancelled:
            assert world.found(effects.ENDED) == []
            world.end(world.take(), value="second")
        assert world.found(effects.ENDED) == [(effects.ENDED, ["one", "two"], Outcome.SUCCEEDED, None, value)]


def test_s22_a_drop_in_between_is_a_dead_letter_all_the_same() -> None:
    """S22: re-sent while running, and that run is dropped: a dead letter, no outcome yet, attempts from 1."""
    world, envelope = World(), plain()
    world.send(envelope)
    running = world.turn(world.take(), retry())
    world.send(envelope)
    world.end(running, dropped(ValueError("dropped")))
    assert [effect[1:3] for effect in world.found(effects.DEAD)] == [(envelope, 2)]
    assert world.machine.count(Outcome.DROPPED) == 0
    assert world.take().attempt == 1


def test_s22_stop_envelope_wins_over_a_resend() -> None:
    """S22: re-sent while running, but the run ends with StopEnvelope: stopped, no further run."""
    world, envelope = World(), plain()
    world.send(envelope)
    running = world.take()
    world.send(envelope)
    world.end(running, stopped(ValueError()))
    assert (world.take(), world.machine.count(Outcome.STOPPED)) == (None, 1)


def test_s22_a_future_is_not_taken_for_a_periodic() -> None:
    """S22: a submit onto a key that a periodic holds, or will hold after a re-send, is refused."""
    world = World()
    periodic = Envelope(handler, key="k", interval=5)
    world.machine.send([periodic], None, {periodic: (0.0, 0.0)})
    with pytest.raises(InvalidEnvelopeError):
        world.send(Envelope(handler, key="k"), future="future")
    world = World()
    world.send(Envelope(handler, key="k"))
    world.take()
    world.machine.send([periodic], None, {periodic: (0.0, 0.0)})
    with pytest.raises(InvalidEnvelopeError):
        world.send(Envelope(handler, key="k"), future="future")


def test_s22_the_last_detached_future_withdraws() -> None:
    """S22: a cancelled future leaves its entry; the entry is withdrawn when nobody else asked for it."""
    world, envelope = World(), plain()
    world.send(envelope, future="one")
    world.send(envelope, future="two")
    assert world.done(world.machine.detach(envelope, "one")) is True
    assert len(world.machine.entries) == 1
    assert world.done(world.machine.detach(envelope, "one")) is False
    assert world.done(world.machine.detach(envelope, "two")) is True
    assert (len(world.machine.entries), world.machine.count(Outcome.RETURNED)) == (0, 1)
    world.send(envelope, future="one")
    world.send(envelope)
    assert world.done(world.machine.detach(envelope, "one")) is True
    assert world.take_all() == [envelope]


@pytest.mark.parametrize("backed_off_before", [False, True])
def test_a_cancel_forgets_the_backoff(backed_off_before: bool) -> None:
    """A run that asked for backoff ends RETURNED because it was cancelled: the limiter is told to forget it."""
    world, envelope = World(), Envelope(handler, key="k")
    world.send(envelope)
    handle = world.take()
    if backed_off_before:
        handle = world.turn(handle, retry(0, backed_off=True))
    world.cancel("k")
    world.end(handle, retry(5, backed_off=True))
    assert world.machine.count(Outcome.RETURNED) == 1
    assert world.found(effects.FORGET) == [(effects.FORGET, "k")]


def test_a_resend_remembers_the_backoff() -> None:
    """A run that asked for backoff was sent again: whatever ends the entry later, the limiter is told to forget it."""
    world, envelope = World(), Envelope(handler, key="k")
    world.send(envelope)
    handle = world.take()
    world.send(envelope)
    world.end(handle, retry(5, backed_off=True))
    assert world.cancel("k")
    assert world.found(effects.FORGET) == [(effects.FORGET, "k")]


def test_small_debris_lets_go_of_what_was_cancelled() -> None:
    """A cancelled plain envelope is not kept by its place in a short ready queue."""
    world, envelopes = World(), many(3)
    world.send(*envelopes)
    world.cancel(envelopes[1])
    assert envelopes[1] not in list(world.machine.ready)
