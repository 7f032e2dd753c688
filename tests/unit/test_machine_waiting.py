"""The machine by itself: stops, seats and joins."""

from __future__ import annotations

import pytest

from rate_envelope_queue.core import effects
from rate_envelope_queue.core.settle import cancelled
from rate_envelope_queue.core.waiting import Seat, Waiter
from rate_envelope_queue.envelope import Envelope
from rate_envelope_queue.errors import (
    CapacityExceededError,
    QueueNotRunningError,
    QueueStateError,
    QueueTerminatedError,
)
from rate_envelope_queue.results import QueueState, StopMode

from .machine_world import World, many, plain


def wait_for_room(world: World, *envelopes: Envelope) -> Seat:
    return world.done(world.machine.wait_for_room(envelopes, None, None, may_wait=True))  # type: ignore[no-any-return]


def test_s08_the_ticket_collects_what_was_returned() -> None:
    """S08: terminate during a drain: a cancelled run that ended early is in `returned`, in the order of acceptance."""
    world, envelopes = World(workers=2), many(4)
    world.send(*envelopes)
    first, second = world.take(), world.take()
    world.stop()
    world.terminate()
    assert world.found(effects.CANCEL) == [(effects.CANCEL, world.machine.scope)]
    world.end(first, cancelled())
    assert world.machine.state is QueueState.STOPPING
    world.end(second)
    assert world.report().returned == (envelopes[0], envelopes[2], envelopes[3])
    assert world.machine.state is QueueState.TERMINATED


def test_s08_a_long_book_is_returned_in_slices() -> None:
    """S08: two thousand entries are not returned in one section, and yet each once and in order."""
    world, envelopes = World(), many(2000)
    world.send(*envelopes)
    ticket = world.machine.stop(StopMode.STOP, None, 0, is_ending=True, is_inside=False, waited=True)
    assert ticket is not None
    assert ticket.report is None
    assert len(world.machine.entries) > 1000
    world.done()
    assert world.report().returned == tuple(envelopes)


def test_s09_the_head_gives_up() -> None:
    """S09: the head seat needs two places and gives up: the next, which needs one, is seated in that section."""
    world = World(capacity=2)
    world.send(plain())
    first, second = wait_for_room(world, *many(2)), wait_for_room(world, plain())
    assert (first.is_done, second.is_done) == (False, False)
    assert world.done(world.machine.give_up(first)) is True
    assert (second.is_done, second.answer) == (True, 1)
    assert len(world.machine.entries) == 2
    assert world.found(effects.SIGNAL) == [(effects.SIGNAL, second)]


def test_s09_room_is_given_in_the_section_that_frees_it() -> None:
    """S09: cancel, clear, and the end of a run seat at once; a seat's need is counted anew each time."""
    world = World(capacity=2)
    kept, goes = plain("kept"), plain("goes")
    world.send(kept, goes)
    seat = wait_for_room(world, kept, plain())  # one of the two is there already
    world.cancel(goes)
    assert (seat.is_done, seat.answer) == (True, 1)
    seats = [wait_for_room(world, plain()) for _ in range(3)]
    assert world.turn(world.take()) is not None
    assert [seat.is_done for seat in seats] == [True, False, False]
    world.done(world.machine.clear())
    assert [seat.is_done for seat in seats] == [True, True, False]  # one place: the other belongs to what runs


def test_s09_the_need_is_counted_anew() -> None:
    """S09: what the head waits to send left the queue meanwhile: then it needs more, and does not fit by mistake."""
    world = World(capacity=2)
    one, two = plain(), plain()
    world.send(one, two)
    seat = wait_for_room(world, one, plain())
    world.cancel(one)
    assert not seat.is_done
    world.cancel(two)
    assert (seat.is_done, seat.answer) == (True, 2)


def test_s09_first_come_first_seated() -> None:
    """S09: a small batch does not pass a large one that waits in front of it; a plain send may."""
    world = World(capacity=3)
    world.send(*many(2))
    large, small = wait_for_room(world, *many(2)), wait_for_room(world, plain())
    assert (large.is_done, small.is_done) == (False, False)
    assert world.send(plain()) == 1
    world.done(world.machine.clear())
    assert (large.is_done, small.is_done) == (True, True)


def test_s10_giving_up_too_late() -> None:
    """S10: seated and giving up meet: who is seated stays seated, and hears it."""
    world = World(capacity=1)
    taken = plain()
    world.send(taken)
    seat = wait_for_room(world, plain())
    world.cancel(taken)
    assert world.done(world.machine.give_up(seat)) is False
    assert (seat.answer, len(world.machine.entries)) == (1, 1)


@pytest.mark.parametrize("is_ending", [False, True])
def test_s10_a_stop_ends_the_row(is_ending: bool) -> None:
    """S10: everybody in the row is told when the queue takes nothing in any more."""
    world = World(capacity=1)
    world.send(plain())
    seats = [wait_for_room(world, plain()) for _ in range(2)]
    world.terminate() if is_ending else world.stop(StopMode.STOP)
    expected = QueueTerminatedError if is_ending else QueueNotRunningError
    assert [type(seat.error) for seat in seats] == [expected] * 2
    assert not world.machine.seats


def test_s10_who_may_not_wait_is_told() -> None:
    """S10: inside a worker nobody waits: QueueStateError; a batch that never fits: CapacityExceededError at once."""
    world = World(capacity=1)
    world.send(plain())
    with pytest.raises(QueueStateError):
        world.machine.wait_for_room((plain(),), None, None, may_wait=False)
    with pytest.raises(CapacityExceededError):
        world.machine.wait_for_room(tuple(many(2)), None, None, may_wait=True)
    assert not world.machine.seats


def test_s23_times_only_shrink() -> None:
    """S23: each further stop joins the ticket; its times are taken over only where they come earlier."""
    world, envelope = World(), plain()
    world.send(envelope)
    running = world.take()
    ticket = world.stop()
    assert world.machine.stop_at() is None
    assert world.stop(timeout=100, grace=5) is ticket
    assert world.machine.stop_at() == 100
    world.at(10)
    assert world.stop(timeout=20, grace=5) is ticket
    assert world.machine.stop_at() == 30
    world.stop(timeout=500, grace=500)
    world.stop()
    world.at(30)
    assert (world.machine.stop_at(), len(world.found(effects.CANCEL))) == (35, 1)
    world.at(35)
    assert (world.report().abandoned, world.report().elapsed) == ((envelope,), 35)
    world.end(running)
    assert world.machine.abandoned_ended == 1


def test_s23_a_shorter_timeout_after_the_first_has_cancelled() -> None:
    """S23: the contexts are cancelled already and the grace is long: a second stop shortens that too."""
    world = World()
    world.send(plain())
    world.take()
    world.stop(timeout=0, grace=1000)
    assert world.machine.stop_at() == 1000
    world.stop(timeout=0, grace=2)
    world.at(2)
    assert world.report().timed_out


def test_s23_a_mode_only_hardens() -> None:
    """S23: STOP after DRAIN starts nothing more; DRAIN after STOP does not soften it."""
    world, envelopes = World(), many(3)
    world.send(*envelopes)
    running = world.take()
    world.stop(StopMode.DRAIN)
    running = world.turn(running)
    assert running is envelopes[1]
    world.stop(StopMode.STOP)
    world.stop(StopMode.DRAIN)
    assert world.turn(running) is None
    assert (world.report().kept, world.report().mode) == ((envelopes[2],), StopMode.STOP)


def test_a_join_while_effects_are_delivered() -> None:
    """A join in INIT with nothing in the queue is satisfied, though another thread still delivers effects."""
    world = World(started=False)
    envelope = plain()
    world.send(envelope)
    world.machine.cancel(envelope)
    assert world.machine.take_outbox() is not None
    waiter = Waiter()
    satisfied = world.machine.join(waiter)  # must not raise: nothing is in the queue
    world.machine.delivered()
    assert satisfied or waiter.is_done
