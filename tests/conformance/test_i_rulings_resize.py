"""Line 70a for resize: each ruling of CONTRACT 7 is a test."""

from __future__ import annotations

from typing import Any

from rate_envelope_queue import Envelope, QueueState, StopMode

from .harness import Gate, Harness


class Crowd:
    """Counts how many handlers are inside at once."""

    def __init__(self, h: Harness) -> None:
        self.h, self.inside, self.most = h, 0, 0

    def invoke(self, ctx: Any, envelope: Any) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.h.work(ctx, 1)
        self.inside -= 1


def held(gate: Gate) -> Envelope:
    return Envelope(lambda ctx, envelope: gate.wait(ctx))


def test_workers_is_how_many_run_at_once(h: Harness) -> None:
    """70a resize: as many envelopes run at once as there are workers, never more."""
    queue, gate = h.queue(workers=3), h.gate()
    queue.start()
    queue.send(*(held(gate) for _ in range(5)))
    h.until(lambda: gate.waiting == 3)
    h.pass_time(1)
    assert (gate.waiting, queue.stats().running, queue.stats().ready, queue.stats().workers) == (3, 3, 2, 3)


def test_up(h: Harness) -> None:
    """70a resize: up: more run at once, also of what waited already."""
    queue, gate = h.queue(workers=1), h.gate()
    queue.start()
    queue.send(*(held(gate) for _ in range(5)))
    h.until(lambda: gate.waiting == 1)
    queue.resize(4)
    assert queue.stats().workers == 4
    h.until(lambda: gate.waiting == 4)
    h.pass_time(1)
    assert gate.waiting == 4


def test_down_interrupts_nothing(h: Harness) -> None:
    """70a resize: down never interrupts a run."""
    queue, gate = h.queue(workers=3), h.gate()
    queue.start()
    queue.send(*(Envelope(lambda ctx, envelope: gate.wait(ctx) or h.mark(ctx.done)) for _ in range(3)))
    h.until(lambda: gate.waiting == 3)
    queue.resize(1)
    assert queue.stats().workers == 1
    h.pass_time(1)
    assert (gate.waiting, queue.stats().running) == (3, 3)
    gate.open()
    h.until(lambda: len(queue) == 0)
    assert h.labels() == [False] * 3
    assert queue.stats().succeeded == 3


def test_down_holds_for_what_starts_later(h: Harness) -> None:
    """70a resize: down: what starts after it runs on as many workers as there are now."""
    queue, gate, crowd = h.queue(workers=3), h.gate(), Crowd(h)
    queue.start()
    queue.send(*(held(gate) for _ in range(3)))
    h.until(lambda: gate.waiting == 3)
    queue.resize(1)
    queue.send(*(Envelope(crowd.invoke) for _ in range(4)))
    gate.open()
    queue.join()
    assert crowd.most == 1


def test_down_and_up_again(h: Harness) -> None:
    """70a resize: down and up again, over and over: nothing is lost."""
    queue, gate = h.queue(workers=2), h.gate()
    queue.start()
    for workers in (1, 5, 2, 1, 8, 3):
        queue.resize(workers)
        queue.send(*(Envelope(h.handler("ran")) for _ in range(10)))
    queue.join()
    assert len(h.log) == 60
    queue.send(*(held(gate) for _ in range(5)))
    h.until(lambda: gate.waiting == 3)
    h.pass_time(1)
    assert gate.waiting == 3


def test_in_init(h: Harness) -> None:
    """70a resize: before the start it says how many workers there will be."""
    queue, gate = h.queue(workers=1), h.gate()
    queue.resize(2)
    queue.send(*(held(gate) for _ in range(4)))
    queue.start()
    h.until(lambda: gate.waiting == 2)
    h.pass_time(1)
    assert gate.waiting == 2


def test_survives_a_restart(h: Harness) -> None:
    """70a resize: the size outlives stop and start, also when given while stopped."""
    queue, gate = h.queue(workers=1), h.gate()
    queue.start()
    queue.resize(3)
    queue.stop()
    queue.start()
    assert queue.stats().workers == 3
    queue.stop()
    queue.resize(2)
    queue.start()
    queue.send(*(held(gate) for _ in range(4)))
    h.until(lambda: gate.waiting == 2)
    h.pass_time(1)
    assert gate.waiting == 2


def test_down_during_a_stop(h: Harness) -> None:
    """70a resize: down during a drain: the drain goes on with fewer workers, and comes to its end."""
    queue, gate = h.queue(workers=3), h.gate()
    queue.start()
    queue.send(*(held(gate) for _ in range(3)), *(Envelope(h.handler("drained")) for _ in range(5)))
    h.until(lambda: gate.waiting == 3)
    queue.stop(StopMode.DRAIN, wait=False)
    queue.resize(1)
    gate.open()
    h.until(lambda: queue.state is QueueState.STOPPED)
    assert len(h.log) == 5


def test_from_a_handler(h: Harness) -> None:
    """70a resize: a handler may resize its own queue, down to the worker it runs on."""
    queue = h.queue(workers=3)
    queue.start()
    queue.send(Envelope(lambda ctx, envelope: ctx.queue.resize(1)))
    queue.join()
    crowd = Crowd(h)
    queue.send(*(Envelope(crowd.invoke) for _ in range(3)))
    queue.join()
    assert crowd.most == 1
