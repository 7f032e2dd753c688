"""Rare sequences on threads, each of which once went wrong: what is left over, what raises, who comes in between."""

from __future__ import annotations

from rate_envelope_queue import Envelope

from .harness import PATIENCE, Harness, threads_only


@threads_only
def test_an_abandoned_run_does_not_hold_the_stops_of_later_starts(h: Harness) -> None:
    """CONTRACT 7: an abandoned run is listed and forgotten, also when its worker had effects to deliver before it."""
    queue = h.queue(workers=1)
    gate, held = h.gate(), h.gate()
    queue.start()
    queue.submit(Envelope(lambda ctx, e: gate.wait(ctx)))
    queue.send(Envelope(lambda ctx, e: held.wait(ctx)))
    gate.open()
    h.until(lambda: held.waiting)
    assert len(queue.stop(timeout=0, grace=0).abandoned) == 1
    queue.start()
    assert queue.join(timeout=PATIENCE)
    assert h.in_background(queue.stop).result().abandoned == ()
    assert held.waiting
