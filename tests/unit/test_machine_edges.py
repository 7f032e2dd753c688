"""Corners of the machine: slices of a terminate, keys behind a ghost, priorities at a start rate."""

from __future__ import annotations

import gc
import weakref

from rate_envelope_queue import Envelope, QueueState, StopMode
from rate_envelope_queue.core.machine import Machine
from rate_envelope_queue.testing import SimulatedEnvelopeQueue

from .machine_world import World, many


def noop(ctx: object, envelope: object) -> None:
    """Nothing."""


def test_a_terminate_returns_its_entries_in_slices() -> None:
    """7: a terminate of many entries is cut into slices, asks for more at once, and loses none."""
    machine = Machine(lambda: 0.0)
    machine.start()
    envelopes = [Envelope(noop) for _ in range(1200)]
    machine.send(envelopes, 100.0)
    ticket = machine.stop(StopMode.STOP, None, 0.0, is_ending=True, is_inside=False, waited=True)
    assert ticket is not None
    assert machine.stop_at() == 0.0
    machine.rest()
    assert ticket.report is None
    while machine.stop_at() == 0.0:
        machine.tick(0.0)
    assert ticket.report is not None
    assert ticket.report.returned == tuple(envelopes)
    assert machine.state is QueueState.TERMINATED


def test_a_drain_keeps_what_waits_behind_an_abandoned_run() -> None:
    """4: what waits behind an abandoned run counts as ready, and DRAIN keeps it."""
    queue = SimulatedEnvelopeQueue("ghost")
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: queue.clock.sleep(100), key="k"))
    queue.run_until_idle()
    assert len(queue.stop(timeout=0, grace=0).abandoned) == 1
    queue.start()
    waiting = Envelope(noop, key="k")
    queue.send(waiting)
    assert queue.stats().ready == 1
    assert queue.stop(StopMode.DRAIN).kept == (waiting,)
    queue.start()
    queue.advance(200)
    assert queue.stats().succeeded == 1


def test_priorities_at_a_start_rate() -> None:
    """5: the start rate is obeyed, and the larger priority goes first."""
    queue = SimulatedEnvelopeQueue("rate", start_rate=1, workers=1)
    order = []
    queue.send(*(Envelope(lambda ctx, envelope: order.append(envelope.priority), priority=n) for n in (0, 5, 1)))
    queue.start()
    queue.advance(0.5)
    assert order == [5]
    queue.advance(5)
    assert order == [5, 1, 0]


def test_an_abandoned_run_that_has_ended_keeps_nothing() -> None:
    """Also when a delay of it is still among the debris of the heap: found by the random programs."""
    world, (first, second) = World(), many(2)
    world.send(first, delay=5)
    world.send(second, delay=6)
    world.send(second)  # at once; its delay, below another's, stays in the heap
    handle = world.take()
    world.stop(timeout=0, grace=0)
    world.start()
    world.end(handle)
    world.stop()  # the report of another stop
    world.start()
    world.effects.clear()
    watched = weakref.ref(second)
    del second, handle
    gc.collect()
    assert watched() is None
